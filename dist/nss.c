/*
 * Linked into the static binary. Without it, glibc loads the modules that /etc/nsswitch.conf names, such as myhostname, from the machine.
 * Those need the machine's own glibc, and the program crashes. files and dns are in the binary.
 */
#include <nss.h>

__attribute__((constructor)) static void load_no_modules(void) {
  __nss_configure_lookup("hosts", "files dns");
  __nss_configure_lookup("passwd", "files");
}
