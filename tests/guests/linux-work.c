/* Copyright (c) 2026, hostmem.qemu authors
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * The work of the Linux guest, as its process 1: what would notice if the
 * machine lost memory, disk writes, connections or time. README.md beside this
 * file describes the console lines and the records on disk.
 *
 *   linux-work DIRECTORY DEVICE    a mounted file system and persistent memory to work on; "": none
 *
 * Each worker is a process of its own; all of them end when process 1 ends the guest.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/input.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    PAGE = 4096,
    RECORD_PAYLOAD = 4096,
    RECORD_SLOTS = 4096, /* the file is a ring: 16 MiB of records */
    CHECKS_PER_RECORD = 4,
    RECORD_PAUSE_MS = 10,
    REPORT_MS = 500,
    MEMORY_BYTES = 16 << 20,
    MEMORY_BLOCK = 64 << 10,
    MEMORY_PAUSE_MS = 500,
    ECHO_PORT = 7,
    ECHO_CLIENTS = 64,
    ECHO_BUFFER = 64 << 10,
    INPUT_DEVICES = 16,
    STOP_TRIES = 100,
    STOP_PAUSE_MS = 20,
};

struct record { /* as on disk, little endian, 4112 bytes */
    uint64_t sequence;
    uint64_t payload[RECORD_PAYLOAD / 8];
    uint32_t crc; /* CRC-32 as zlib's, of all before it */
    uint32_t magic;
};
#define RECORD_MAGIC 0x31524d48u /* "HMR1" */

/* The console without waiting for its reader: a line may be lost, work may not stop. */
static int console_quick;
/* The same, waiting: for what must be seen. */
static int console_sure;

static void print(int console, const char *format, ...)
{
    char line[160];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (length > 0 && write(console, line, (size_t)length) < 0)
        return; /* nowhere to complain */
}

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

static void sleep_ms(int64_t ms)
{
    struct timespec pause = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&pause, NULL);
}

/* Word `index` of the pattern `seed` (splitmix64). */
static uint64_t pattern(uint64_t seed, uint64_t index)
{
    uint64_t z = (seed << 32) + (index + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint32_t crc_table[256];

static void crc_setup(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t value = byte;
        for (int bit = 0; bit < 8; bit++)
            value = value >> 1 ^ (value & 1 ? 0xedb88320u : 0);
        crc_table[byte] = value;
    }
}

static uint32_t crc32(const void *data, size_t size)
{
    const unsigned char *byte = data;
    uint32_t crc = ~0u;
    while (size--)
        crc = crc >> 8 ^ crc_table[(crc ^ *byte++) & 255];
    return ~crc;
}

/* --- disk and NVDIMM: records written with fsync and read back from the device --- */

/* What this process tells of them begins with it. */
static char record_letter;

static void record_fill(struct record *record, uint64_t sequence)
{
    record->sequence = sequence;
    for (uint64_t i = 0; i < RECORD_PAYLOAD / 8; i++)
        record->payload[i] = pattern(sequence, i);
    record->crc = crc32(record, offsetof(struct record, crc));
    record->magic = RECORD_MAGIC;
}

static int record_is_whole(const struct record *record)
{
    return record->magic == RECORD_MAGIC && record->crc == crc32(record, offsetof(struct record, crc));
}

static off_t record_offset(uint64_t sequence)
{
    return (off_t)(sequence % RECORD_SLOTS * sizeof(struct record));
}

/* Read slot of `sequence` past the page cache, whose clean pages are dropped first. */
static int record_read(int file, uint64_t sequence, struct record *record)
{
    off_t start = record_offset(sequence) / PAGE * PAGE;
    posix_fadvise(file, start, sizeof *record + 2 * PAGE, POSIX_FADV_DONTNEED);
    return pread(file, record, sizeof *record, record_offset(sequence)) == (ssize_t)sizeof *record ? 0 : -1;
}

static void record_check(int file, uint64_t sequence)
{
    static struct record found, wanted;
    if (record_read(file, sequence, &found) < 0)
        print(console_sure, "%cX%llu unreadable %d\n", record_letter, (unsigned long long)sequence, errno);
    record_fill(&wanted, sequence);
    if (memcmp(&found, &wanted, sizeof found) != 0)
        print(console_sure, "%cX%llu found %llu\n", record_letter, (unsigned long long)sequence,
              (unsigned long long)found.sequence);
}

/* The highest sequence number of an earlier boot, 0 without one. */
static uint64_t records_before(int file)
{
    static struct record found;
    uint64_t last = 0;
    off_t end = lseek(file, 0, SEEK_END); /* stat does not tell that of a device */
    for (uint64_t slot = 0; slot < RECORD_SLOTS && record_offset(slot) < end; slot++) {
        if (record_read(file, slot, &found) < 0)
            break;
        if (found.sequence == 0 && found.magic == 0)
            continue; /* slot 0 stays empty in the first round */
        if (!record_is_whole(&found) || found.sequence % RECORD_SLOTS != slot)
            /* the one that was being written when the power went; it is written next */
            print(console_sure, "%cT%llu slot %llu\n", record_letter, (unsigned long long)found.sequence,
                  (unsigned long long)slot);
        else if (found.sequence > last)
            last = found.sequence;
    }
    return last;
}

static void record_worker(char letter, const char *path)
{
    static struct record record;
    record_letter = letter;
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0) {
        print(console_sure, "%cX0 open %d\n", letter, errno);
        return;
    }
    uint64_t sequence = records_before(file);
    uint64_t check = 0;
    print(console_sure, "%c%llu\n", letter, (unsigned long long)sequence);
    int64_t report = now_ms() + REPORT_MS;
    for (;;) {
        record_fill(&record, ++sequence);
        if (pwrite(file, &record, sizeof record, record_offset(sequence)) != (ssize_t)sizeof record || fsync(file) < 0)
            print(console_sure, "%cX%llu write %d\n", letter, (unsigned long long)sequence, errno);
        /* the newest, and older ones in rotation: what a rolled back disk would betray */
        record_check(file, sequence);
        uint64_t oldest = sequence > RECORD_SLOTS ? sequence - RECORD_SLOTS + 1 : 1;
        for (int i = 0; i < CHECKS_PER_RECORD; i++) {
            if (check < oldest || check > sequence)
                check = oldest;
            record_check(file, check++);
        }
        if (now_ms() >= report) {
            print(console_quick, "%c%llu\n", letter, (unsigned long long)sequence);
            report = now_ms() + REPORT_MS;
        }
        sleep_ms(RECORD_PAUSE_MS);
    }
}

static void disk_worker(const char *directory)
{
    char path[256];
    snprintf(path, sizeof path, "%s/records", directory);
    record_worker('D', path);
}

static void nvdimm_worker(const char *device)
{
    record_worker('N', device);
}

/* --- memory: a tmpfs file of a known pattern, checked and rewritten --- */

static void memory_block(uint64_t *block, uint64_t seed, off_t offset)
{
    for (uint64_t i = 0; i < MEMORY_BLOCK / 8; i++)
        block[i] = pattern(seed, (uint64_t)offset / 8 + i);
}

static void memory_write(int file, uint64_t seed)
{
    static uint64_t block[MEMORY_BLOCK / 8];
    for (off_t offset = 0; offset < MEMORY_BYTES; offset += MEMORY_BLOCK) {
        memory_block(block, seed, offset);
        if (pwrite(file, block, sizeof block, offset) != (ssize_t)sizeof block)
            print(console_sure, "MX%llu write %d\n", (unsigned long long)seed, errno);
    }
}

static void memory_check(int file, uint64_t seed)
{
    static uint64_t found[MEMORY_BLOCK / 8], wanted[MEMORY_BLOCK / 8];
    for (off_t offset = 0; offset < MEMORY_BYTES; offset += MEMORY_BLOCK) {
        memory_block(wanted, seed, offset);
        if (pread(file, found, sizeof found, offset) != (ssize_t)sizeof found)
            print(console_sure, "MX%llu read %d\n", (unsigned long long)seed, errno);
        else if (memcmp(found, wanted, sizeof found) != 0)
            print(console_sure, "MX%llu offset %llu\n", (unsigned long long)seed, (unsigned long long)offset);
    }
}

static void memory_worker(const char *path)
{
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0) {
        print(console_sure, "MX0 open %d\n", errno);
        return;
    }
    for (uint64_t pass = 1;; pass++) {
        memory_write(file, pass);
        sleep_ms(MEMORY_PAUSE_MS); /* time to go wrong, and CPU for the others */
        memory_check(file, pass);
        print(console_quick, "M%llu\n", (unsigned long long)pass);
    }
}

/* --- network: TCP echo --- */

struct client {
    int start, end; /* bytes still to be sent back */
    char buffer[ECHO_BUFFER];
};

/* Move bytes of one connection; -1: it is over. */
static int echo_serve(int socket, struct client *client)
{
    ssize_t moved;
    if (client->start == client->end) {
        client->start = client->end = 0;
        moved = recv(socket, client->buffer, sizeof client->buffer, MSG_DONTWAIT);
        if (moved == 0)
            return -1;
        if (moved < 0)
            return errno == EAGAIN ? 0 : -1;
        client->end = (int)moved;
    }
    moved = send(socket, client->buffer + client->start, (size_t)(client->end - client->start),
                 MSG_DONTWAIT | MSG_NOSIGNAL);
    if (moved < 0)
        return errno == EAGAIN ? 0 : -1;
    client->start += (int)moved;
    return 0;
}

static int echo_listen(void)
{
    int one = 1;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(ECHO_PORT)};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, ECHO_CLIENTS) < 0)
        print(console_sure, "EX%d\n", errno);
    return listener;
}

static void echo_worker(void)
{
    static struct pollfd polled[1 + ECHO_CLIENTS];
    static struct client *clients[1 + ECHO_CLIENTS];
    int used = 1, one = 1;
    polled[0].fd = echo_listen();
    print(console_sure, "ECHO\n");
    for (;;) {
        polled[0].events = used <= ECHO_CLIENTS ? POLLIN : 0;
        for (int i = 1; i < used; i++)
            polled[i].events = clients[i]->start == clients[i]->end ? POLLIN : POLLOUT;
        if (poll(polled, (nfds_t)used, -1) < 0)
            continue;
        for (int i = used - 1; i > 0; i--) {
            if (!polled[i].revents || echo_serve(polled[i].fd, clients[i]) == 0)
                continue;
            close(polled[i].fd);
            free(clients[i]);
            polled[i] = polled[--used];
            clients[i] = clients[used];
        }
        if (!(polled[0].revents & POLLIN))
            continue;
        int socket = accept4(polled[0].fd, NULL, NULL, SOCK_CLOEXEC);
        struct client *client = socket < 0 ? NULL : calloc(1, sizeof *client);
        if (!client)
            continue;
        setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        polled[used] = (struct pollfd){.fd = socket};
        clients[used++] = client;
    }
}

/* --- time: the guest's clock on the console --- */

static void beat_worker(void)
{
    for (int64_t next = now_ms();; next += REPORT_MS) {
        int64_t now = now_ms();
        if (next > now)
            sleep_ms(next - now);
        else
            next = now;
        print(console_quick, "L%lld\n", (long long)now_ms() / 10);
    }
}

/* --- process 1 --- */

/* Start a worker with the default signals. Its niceness keeps the memory worker from delaying the echo. */
static void start(void (*worker)(const char *), const char *argument, int niceness)
{
    pid_t pid = fork();
    if (pid == 0) {
        sigset_t none;
        setpriority(PRIO_PROCESS, 0, niceness);
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        worker(argument);
        _exit(1);
    }
}

static void start_echo(const char *unused)
{
    (void)unused;
    echo_worker();
}

static void start_beat(const char *unused)
{
    (void)unused;
    beat_worker();
}

/* End all processes, unmount, and end the guest in the way `how` (RB_*). */
static void end_guest(const char *directory, int how)
{
    int clean = 1;
    kill(-1, SIGTERM);
    if (directory) {
        clean = 0;
        for (int i = 0; i < STOP_TRIES && !clean; i++) {
            if (i == STOP_TRIES / 2)
                kill(-1, SIGKILL);
            clean = umount(directory) == 0;
            if (!clean)
                sleep_ms(STOP_PAUSE_MS);
        }
    }
    sync();
    print(console_sure, "%s%s\n", how == RB_POWER_OFF ? "POWEROFF" : "RESTART", clean ? "" : " unclean");
    sleep_ms(50); /* the serial port sends what it holds */
    reboot(how);
}

static int power_pressed(int device)
{
    struct input_event events[16];
    ssize_t got;
    while ((got = read(device, events, sizeof events)) > 0)
        for (size_t i = 0; i < (size_t)got / sizeof *events; i++)
            if (events[i].type == EV_KEY && events[i].code == KEY_POWER && events[i].value == 1)
                return 1;
    return 0;
}

static void reap(void)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        if (WIFSIGNALED(status) || WEXITSTATUS(status))
            print(console_sure, "DIED %d %d\n", (int)pid, status);
}

/* SIGUSR2: power off. SIGTERM: restart. SIGCHLD: a process ended. */
static int open_signals(void)
{
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR2);
    sigaddset(&mask, SIGTERM);
    sigaddset(&mask, SIGCHLD);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    return signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void watch_signals(int signals, const char *directory)
{
    struct signalfd_siginfo info;
    while (read(signals, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGUSR2)
            end_guest(directory, RB_POWER_OFF);
        if (info.ssi_signo == SIGTERM)
            end_guest(directory, RB_AUTOBOOT);
    }
    reap();
}

int main(int count, char **arguments)
{
    const char *directory = count > 1 && *arguments[1] ? arguments[1] : NULL;
    const char *device = count > 2 && *arguments[2] ? arguments[2] : NULL;
    struct pollfd polled[1 + INPUT_DEVICES];
    nfds_t used = 1;

    console_quick = open("/dev/console", O_WRONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    console_sure = open("/dev/console", O_WRONLY | O_NOCTTY | O_CLOEXEC);
    polled[0] = (struct pollfd){.fd = open_signals(), .events = POLLIN};
    for (int i = 0; i < INPUT_DEVICES; i++) {
        char path[32];
        snprintf(path, sizeof path, "/dev/input/event%d", i);
        int device = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        if (device >= 0)
            polled[used++] = (struct pollfd){.fd = device, .events = POLLIN};
    }
    crc_setup();
    start(start_echo, NULL, -10);
    start(start_beat, NULL, -10);
    if (directory)
        start(disk_worker, directory, 0);
    if (device)
        start(nvdimm_worker, device, 0);
    start(memory_worker, "/tmp/pattern", 10);
    for (;;) {
        if (poll(polled, used, -1) < 0)
            continue;
        if (polled[0].revents)
            watch_signals(polled[0].fd, directory);
        for (nfds_t i = 1; i < used; i++)
            if (polled[i].revents && power_pressed(polled[i].fd))
                end_guest(directory, RB_POWER_OFF);
    }
}
