// The one place where stb_ds's functions (dynamic arrays and hash maps) are compiled.
#define STB_DS_IMPLEMENTATION
#include <stb/stb_ds.h>
