// Whether a text is well-formed XML, as far as a plot needs it.
#ifndef TESTS_SUPPORT_XML_CHECK_H
#define TESTS_SUPPORT_XML_CHECK_H

// Fails the running test at the first fault: tags that do not nest, attributes without quotes, a bare & or <,
// control characters, more than one root, bytes that are no UTF-8.
void assert_well_formed(const char *xml);

#endif
