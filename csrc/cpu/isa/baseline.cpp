// CPU kernels for any processor of the architecture.
#define PUMLC_ISA baseline
#include "table.h"
