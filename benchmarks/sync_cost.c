/* Makes each sync of a file take longer, or left out: loaded with LD_PRELOAD, SYNC_MICROSECONDS says by how much.
   What a sync takes differs by more than a hundred times between disks; without any, only the work itself is left. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

static int synced(const char *function, int handle)
{
    const char *cost = getenv("SYNC_MICROSECONDS");
    long microseconds = cost ? atol(cost) : 0;
    struct timespec longer = {microseconds / 1000000, microseconds % 1000000 * 1000};
    if (microseconds < 0)
        return 0;
    nanosleep(&longer, 0);
    return ((int (*)(int))dlsym(RTLD_NEXT, function))(handle);
}

int fsync(int handle)
{
    return synced("fsync", handle);
}

int fdatasync(int handle)
{
    return synced("fdatasync", handle);
}
