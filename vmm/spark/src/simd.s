# void simd_wait_xmm(image, event), simd_wait_ymm(image, event): load the registers from the image, wipe the image,
# call the service WAIT (0) with the event, store the registers back.

.macro wait_holding name, register, load
.global \name
\name:
.irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    \load \register\n, [rdi + \n * 32]
.endr
    mov rdx, rdi
    mov ecx, 64
    xor eax, eax
    rep stosq
    mov rdi, rsi
    int3                        # RAX is 0, the number of WAIT
.irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    \load [rdx + \n * 32], \register\n
.endr
    ret
.endm

.text
wait_holding simd_wait_xmm, xmm, movdqa
wait_holding simd_wait_ymm, ymm, vmovdqa
