/* Stands between a program and the system calls that change files below one folder: counts them, fails or kills at the
 * n-th, and writes down what each did; or makes closing them take long. Loaded with LD_PRELOAD; armed through fault_arm()
 * and fault_slow_close(). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[PATH_MAX];
static long point = -1, calls = 0;
static int action = 0; /* an errno, or 0 for SIGKILL */
static int log_handle = -1;
static int close_takes = 0; /* microseconds */

#define REAL(name, type) ((type)dlsym(RTLD_NEXT, name))

void fault_arm(const char *where, long at, int what, const char *log)
{
    calls = 0;
    action = what;
    point = at;
    log_handle = log ? REAL("open", int (*)(const char *, int, ...))(log, O_WRONLY | O_CREAT | O_TRUNC, 0600) : -1;
    strncpy(folder, where, sizeof folder - 1);
}

long fault_calls(void) { return calls; }

void fault_slow_close(const char *where, int microseconds)
{
    strncpy(folder, where, sizeof folder - 1);
    close_takes = microseconds;
}

static int inside(const char *path) { return folder[0] && !strncmp(path, folder, strlen(folder)); }

static const char *absolute(const char *path, char *buffer)
{
    if (path[0] == '/') return path;
    if (!getcwd(buffer, PATH_MAX - strlen(path) - 2)) return path;
    strcat(buffer, "/");
    return strcat(buffer, path);
}

static const char *name_of(int handle, char *buffer)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
    ssize_t length = readlink(link, buffer, PATH_MAX - 1);
    buffer[length > 0 ? length : 0] = 0;
    return buffer;
}

/* One record: kind, length of the name, offset, length of the data; then name and data. */
static void note(char kind, const char *name, int64_t offset, const void *data, int64_t size)
{
    if (log_handle < 0) return;
    int64_t head[4] = {kind, (int64_t)strlen(name), offset, size};
    ssize_t (*put)(int, const void *, size_t) = REAL("write", ssize_t (*)(int, const void *, size_t));
    put(log_handle, head, sizeof head);
    put(log_handle, name, strlen(name));
    if (size) put(log_handle, data, size);
}

static int fails(void)
{
    calls++;
    if (point < 0 || calls < point) return 0;
    if (!action) {
        kill(getpid(), SIGKILL);
        for (;;) pause();
    }
    /* A full disk stays full; a broken sector is one. */
    if (action != ENOSPC && calls > point) return 0;
    errno = action;
    return 1;
}

static int concerned(int handle, char *buffer) { return folder[0] && inside(name_of(handle, buffer)); }

ssize_t pwrite64(int handle, const void *data, size_t size, off64_t offset)
{
    char name[PATH_MAX];
    if (concerned(handle, name)) {
        if (fails()) return -1;
        note('w', name, offset, data, size);
    }
    return REAL("pwrite64", ssize_t (*)(int, const void *, size_t, off64_t))(handle, data, size, offset);
}

ssize_t pwrite(int handle, const void *data, size_t size, off_t offset) { return pwrite64(handle, data, size, offset); }

ssize_t write(int handle, const void *data, size_t size)
{
    char name[PATH_MAX];
    if (concerned(handle, name)) {
        if (fails()) return -1;
        note('w', name, lseek(handle, 0, SEEK_CUR), data, size);
    }
    return REAL("write", ssize_t (*)(int, const void *, size_t))(handle, data, size);
}

int ftruncate64(int handle, off64_t size)
{
    char name[PATH_MAX];
    if (concerned(handle, name)) {
        if (fails()) return -1;
        note('t', name, size, "", 0);
    }
    return REAL("ftruncate64", int (*)(int, off64_t))(handle, size);
}

int ftruncate(int handle, off_t size) { return ftruncate64(handle, size); }

static int synced(int handle, const char *real)
{
    char name[PATH_MAX];
    if (concerned(handle, name)) {
        if (action != ENOSPC && fails()) return -1;
        note('s', name, 0, "", 0);
    }
    return REAL(real, int (*)(int))(handle);
}

int fsync(int handle) { return synced(handle, "fsync"); }
int fdatasync(int handle) { return synced(handle, "fdatasync"); }

int unlink(const char *path)
{
    char buffer[PATH_MAX];
    const char *name = absolute(path, buffer);
    if (inside(name)) {
        if (action != ENOSPC && fails()) return -1;
        note('u', name, 0, "", 0);
    }
    return REAL("unlink", int (*)(const char *))(path);
}

int rename(const char *from, const char *to)
{
    char buffer[PATH_MAX], other[PATH_MAX];
    const char *name = absolute(from, buffer), *target = absolute(to, other);
    if (inside(name)) {
        if (fails()) return -1;
        note('r', name, 0, target, strlen(target));
    }
    return REAL("rename", int (*)(const char *, const char *))(from, to);
}

int close(int handle)
{
    char name[PATH_MAX];
    if (close_takes && concerned(handle, name)) usleep(close_takes);
    return REAL("close", int (*)(int))(handle);
}

static int opens(const char *real, const char *path, int flags, mode_t mode)
{
    char buffer[PATH_MAX];
    const char *name = absolute(path, buffer);
    if ((flags & O_CREAT) && inside(name) && access(path, F_OK)) {
        if (fails()) return -1;
        note('c', name, 0, "", 0);
    }
    return REAL(real, int (*)(const char *, int, ...))(path, flags, mode);
}

#define MODE(flags) \
    mode_t mode = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); }

int open(const char *path, int flags, ...) { MODE(flags) return opens("open", path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return opens("open64", path, flags, mode); }
