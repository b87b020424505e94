/*
 * Stands in for Android's logd and for its `log` command in the virtual machine, as far as one socket goes.
 *
 *   logd FILE                       binds /dev/socket/logdw and appends one line per datagram to FILE:
 *                                   the sender's uid and pid, then every byte in hex, undecoded
 *   log -p PRIORITY -t TAG TEXT     sends one line there, as Android's command does
 *
 * The recorder knows nothing of the datagrams' format: what reads FILE decodes it, so that a mistake in the sender
 * cannot be shared by the receiver.
 */
#define _GNU_SOURCE
#include <libgen.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static const struct sockaddr_un logdw = {.sun_family = AF_UNIX, .sun_path = "/dev/socket/logdw"};

static int fail(const char *what) {
    perror(what);
    return 1;
}

static int record(const char *path) {
    FILE *out = fopen(path, "a");
    if (!out) return fail(path);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), on = 1;
    unlink(logdw.sun_path);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) ||
        bind(fd, (const struct sockaddr *)&logdw, sizeof logdw) || chmod(logdw.sun_path, 0222))
        return fail(logdw.sun_path);
    for (;;) {
        static unsigned char bytes[1 << 16];
        char control[CMSG_SPACE(sizeof(struct ucred))];
        struct iovec piece = {bytes, sizeof bytes};
        struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        ssize_t count = recvmsg(fd, &message, 0);
        if (count < 0) return fail("recvmsg");
        struct ucred sender = {0, (uid_t)-1, 0};
        for (struct cmsghdr *item = CMSG_FIRSTHDR(&message); item; item = CMSG_NXTHDR(&message, item))
            if (item->cmsg_type == SCM_CREDENTIALS) memcpy(&sender, CMSG_DATA(item), sizeof sender);
        fprintf(out, "%u %d ", sender.uid, sender.pid);
        for (ssize_t i = 0; i < count; i++) fprintf(out, "%02x", bytes[i]);
        fputc('\n', out);
        fflush(out);
    }
}

/* AOSP liblog: an 11-byte header (buffer id, thread, seconds, nanoseconds), priority, tag, text, the last two ended by NUL. */
static int send_line(char priority, const char *tag, const char *text) {
    static const char levels[] = "vdiwef";
    const char *level = strchr(levels, priority);
    unsigned char bytes[4096];
    struct timespec now;
    uint16_t thread = (uint16_t)getpid();
    size_t tag_length = strlen(tag) + 1, text_length = strlen(text) + 1;
    if (!level || 12 + tag_length + text_length > sizeof bytes) return 2;
    clock_gettime(CLOCK_REALTIME, &now);
    uint32_t time[2] = {(uint32_t)now.tv_sec, (uint32_t)now.tv_nsec};
    bytes[0] = 0;
    memcpy(bytes + 1, &thread, 2);
    memcpy(bytes + 3, time, 8);
    bytes[11] = (unsigned char)(2 + (level - levels));
    memcpy(bytes + 12, tag, tag_length);
    memcpy(bytes + 12 + tag_length, text, text_length);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&logdw, sizeof logdw) ||
        send(fd, bytes, 12 + tag_length + text_length, 0) < 0)
        return fail(logdw.sun_path);
    return 0;
}

int main(int argc, char **argv) {
    const char *name = basename(argv[0]);
    if (!strcmp(name, "logd") && argc == 2) return record(argv[1]);
    if (!strcmp(name, "log") && argc == 6 && !strcmp(argv[1], "-p") && !strcmp(argv[3], "-t"))
        return send_line(argv[2][0], argv[4], argv[5]);
    fprintf(stderr, "usage: logd FILE | log -p v|d|i|w|e|f -t TAG TEXT\n");
    return 2;
}
