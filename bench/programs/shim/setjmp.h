/* wasi-libc has no setjmp. An error that would jump ends the program instead. */
#ifndef SHIM_SETJMP_H
#define SHIM_SETJMP_H

#include <stdlib.h>

typedef int jmp_buf[1];

#define setjmp(buffer) ((void)(buffer), 0)
#define longjmp(buffer, value) ((void)(buffer), (void)(value), abort())

#endif
