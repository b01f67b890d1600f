#pragma once
#include <stddef.h>
#include <stdint.h>

// FuzzerInterface.h of LLVM's libFuzzer.
int LLVMFuzzerRunDriver(int *argc, char ***argv, int (*callback)(const uint8_t *data, size_t size));
