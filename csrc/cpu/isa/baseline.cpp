// CPU kernels for any processor of the architecture.
#define PUMLC_ISA baseline
#define PUMLC_VECTOR_BYTES 16
#include "table.h"
