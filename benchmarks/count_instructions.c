/* A plugin of qemu-user that counts the instructions of a program: -plugin count_instructions.so,out=FILE
 *
 * It adds the length of each translated block when the block runs, and notes the sum at each call of getsid, which
 * programs use as a mark: FILE has a sum a line. The sum is not atomic, so the program must compute in one thread. Debian's qemu has no qemu-plugin.h; these are its declarations that are used here (API version 1, qemu 4.2
 * to 8.2). */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct qemu_plugin_tb;
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int, void *, uint64_t);
extern void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t, void (*)(uint64_t, struct qemu_plugin_tb *));
extern void qemu_plugin_register_vcpu_syscall_cb(uint64_t, void (*)(uint64_t, unsigned, int64_t, uint64_t, uint64_t,
                                                                    uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                                                                    uint64_t));
extern void qemu_plugin_register_atexit_cb(uint64_t, void (*)(uint64_t, void *), void *);

int qemu_plugin_version = 1;
enum { GETSID = 156 /* of Linux on aarch64 */, MOST = 64 };
static uint64_t total, marks[MOST];
static int marked;
static const char *out;

static void translated(uint64_t id, struct qemu_plugin_tb *block) {
  (void)id;
  qemu_plugin_register_vcpu_tb_exec_inline(block, 0 /* add */, &total, qemu_plugin_tb_n_insns(block));
}

static void called(uint64_t id, unsigned cpu, int64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                   uint64_t f, uint64_t g, uint64_t h) {
  (void)id, (void)cpu, (void)a, (void)b, (void)c, (void)d, (void)e, (void)f, (void)g, (void)h;
  if (number == GETSID && marked < MOST) marks[marked++] = total;
}

static void finish(uint64_t id, void *data) {
  (void)id, (void)data;
  FILE *file = fopen(out, "w");
  int written = file != NULL;
  for (int i = 0; i < marked && written; i++) written = fprintf(file, "%llu\n", (unsigned long long)marks[i]) > 0;
  if (file == NULL || !written || fclose(file) != 0) perror(out);
}

int qemu_plugin_install(uint64_t id, const void *info, int count, char **words) {
  (void)info;
  if (count != 1 || strncmp(words[0], "out=", 4) != 0 || (out = strdup(words[0] + 4)) == NULL) return -1;
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  qemu_plugin_register_vcpu_syscall_cb(id, called);
  qemu_plugin_register_atexit_cb(id, finish, NULL);
  return 0;
}
