/* Makes each sync of a file take a millisecond longer, as on a quick disk that really syncs. Loaded with LD_PRELOAD. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>

static void wait_for_the_disk(void)
{
    struct timespec millisecond = {0, 1000000};
    nanosleep(&millisecond, 0);
}

int fsync(int handle)
{
    wait_for_the_disk();
    return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(handle);
}

int fdatasync(int handle)
{
    wait_for_the_disk();
    return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(handle);
}
