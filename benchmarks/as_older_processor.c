/* A process that sees an older processor: instruction sets named in HIDE (amx, bf16, avx512, vnni; by commas) are left
 * out of what CPUID answers, for every library in it. Linux on x86-64 with CPUID faulting. See benchmarks/int8.py.
 *
 *     gcc -O2 -shared -fPIC -o as_older_processor.so as_older_processor.c
 *     HIDE=amx,bf16 LD_PRELOAD=./as_older_processor.so python ...
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define ARCH_SET_CPUID 0x1012
#define BIT(n) (1u << (n))

static int hides_amx, hides_bf16, hides_avx512, hides_vnni;

static void answer(uint32_t leaf, uint32_t sub, uint32_t *a, uint32_t *b, uint32_t *c, uint32_t *d) {
    __asm__ volatile("cpuid" : "=a"(*a), "=b"(*b), "=c"(*c), "=d"(*d) : "a"(leaf), "c"(sub));
    if (leaf != 7) return;
    if (sub == 0) {
        if (hides_amx) *d &= ~(BIT(22) | BIT(24) | BIT(25));
        if (hides_bf16) *d &= ~BIT(23); /* AVX512-FP16, of the same processors */
        if (hides_vnni) *c &= ~BIT(11);
        if (hides_avx512) {
            *b &= ~(BIT(16) | BIT(17) | BIT(21) | BIT(28) | BIT(30) | BIT(31));
            *c &= ~(BIT(1) | BIT(6) | BIT(11) | BIT(12) | BIT(14));
            *d &= ~(BIT(8) | BIT(23));
        }
    } else if (sub == 1) {
        if (hides_amx) *a &= ~BIT(21);
        if (hides_bf16 || hides_avx512) *a &= ~BIT(5);
        if (hides_vnni) *a &= ~BIT(4), *d &= ~(BIT(4) | BIT(10)); /* AVX-VNNI and its INT8, INT16 */
        if (hides_bf16) *d &= ~BIT(5);
    }
}

static void on_fault(int number, siginfo_t *info, void *context) {
    (void)info;
    greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
    const uint8_t *at = (const uint8_t *)r[REG_RIP];
    if (at[0] != 0x0f || at[1] != 0xa2) { /* not CPUID: a fault of the program's own */
        signal(number, SIG_DFL);
        return;
    }
    uint32_t a, b, c, d;
    syscall(SYS_arch_prctl, ARCH_SET_CPUID, 1);
    answer((uint32_t)r[REG_RAX], (uint32_t)r[REG_RCX], &a, &b, &c, &d);
    syscall(SYS_arch_prctl, ARCH_SET_CPUID, 0);
    r[REG_RAX] = a, r[REG_RBX] = b, r[REG_RCX] = c, r[REG_RDX] = d;
    r[REG_RIP] += 2;
}

__attribute__((constructor)) static void begin(void) {
    const char *what = getenv("HIDE");
    if (!what || !*what) return;
    hides_amx = strstr(what, "amx") != NULL;
    hides_bf16 = strstr(what, "bf16") != NULL;
    hides_avx512 = strstr(what, "avx512") != NULL;
    hides_vnni = strstr(what, "vnni") != NULL;
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
    sigaction(SIGSEGV, &action, NULL);
    if (syscall(SYS_arch_prctl, ARCH_SET_CPUID, 0)) {
        fprintf(stderr, "this processor or kernel cannot hide instruction sets (no CPUID faulting)\n");
        _exit(3);
    }
}
