/* What the static archives of Debian lack to become part of a shared library whose licences are all permissive.
 * tools/release/binaries.py links it with them. */
#include <stdio.h>

/* The archives are compiled for programs and reach stdout and stderr directly, which a shared library cannot. Their
 * references are renamed to these variables. */
__attribute__((visibility("hidden"))) FILE *apus_archive_stdout, *apus_archive_stderr;

__attribute__((constructor)) static void set_streams(void) {
  apus_archive_stdout = stdout;
  apus_archive_stderr = stderr;
}

/* Two codecs of TIFF are left out: JBIG, whose library is under the GPL, and LERC, whose library is in C++. libtiff
 * takes 0 for a codec that is not there, and says so when a file needs it. */
__attribute__((visibility("hidden"))) int TIFFInitJBIG(void *file, int scheme) { return (void)file, (void)scheme, 0; }
__attribute__((visibility("hidden"))) int TIFFInitLERC(void *file, int scheme) { return (void)file, (void)scheme, 0; }
