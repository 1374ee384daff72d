// SPDX-License-Identifier: GPL-2.0-only
/*
 * The first process of the lab's virtual machine.
 *
 * It runs from an initramfs: mounts the host's file system (9p, read-only) with
 * a tmpfs over it, loads KVM, runs one command in there and writes what became
 * of it to ctl/status. Its job description, ctl/job, is a sequence of
 * NUL-terminated KEY=VALUE strings:
 *
 *   module=PATH    load this module
 *   hold=1         keep VMs of KVM's open for as long as the machine runs
 *   rw=TAG:PATH    mount the 9p share TAG at PATH, writable
 *   cwd=PATH       where the command runs
 *   arg=STRING     the command and its arguments, in order
 *   env=NAME=VALUE its environment
 *   tty=ROWSxCOLS  run it on /dev/hvc0 as its terminal, not on the three ports
 *   stdin=1        its standard input comes from port 3 (else /dev/null)
 *   merge=1        its standard error goes where its standard output goes
 *
 * A kernel that has its drivers as modules brings what it takes to get there in the
 * initramfs: /modules, loaded in the order of their names before all else.
 *
 * Standard output is port 1, standard error port 2. The command gets pipes, not
 * the ports themselves, since a port can be opened only once.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#define OPTS_9P "trans=virtio,version=9p2000.L,msize=262144"

static char *job;
static size_t job_len;
static int ctl_fd = -1, status_fd = -1;

static void report(const char *fmt, ...)
{
	char line[512];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (n >= (int)sizeof(line))
		n = sizeof(line) - 1;
	if (status_fd >= 0 && write(status_fd, line, n) == n)
		return;
	fprintf(stderr, "lab: %s\n", line);
}

static void leave(void)
{
	if (status_fd >= 0)
		close(status_fd);
	sync();
	reboot(RB_AUTOBOOT);
	_exit(0);
}

/* The command begins; when, tells the time of the file, by the host's clock. */
static void report_start(void)
{
	int fd = openat(ctl_fd, "started", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	if (fd >= 0)
		close(fd);
	report("started\n");
}

#define fail(...) do { report("error " __VA_ARGS__); leave(); } while (0)

static void try_mount(const char *what, const char *where, const char *type,
		      unsigned long flags, const char *opts)
{
	mkdir(where, 0755);
	if (mount(what, where, type, flags, opts))
		fail("cannot mount %s at %s: %s", type, where, strerror(errno));
}

/* The next value of @key after *@pos in the job, or NULL. */
static char *job_next(const char *key, size_t *pos)
{
	size_t len = strlen(key);

	while (*pos < job_len) {
		char *s = job + *pos;

		*pos += strlen(s) + 1;
		if (!strncmp(s, key, len) && s[len] == '=')
			return s + len + 1;
	}
	return NULL;
}

static char *job_get(const char *key)
{
	size_t pos = 0;

	return job_next(key, &pos);
}

static char **job_all(const char *key)
{
	size_t pos = 0, n = 0;
	char **list, *s;

	while (job_next(key, &pos))
		n++;
	list = calloc(n + 1, sizeof(*list));
	if (!list)
		fail("out of memory");
	for (pos = 0, n = 0; (s = job_next(key, &pos)); n++)
		list[n] = s;
	return list;
}

static void job_read(const char *path)
{
	struct stat st;
	int fd = open(path, O_RDONLY);
	ssize_t n;

	if (fd < 0 || fstat(fd, &st))
		fail("cannot open the job: %s", strerror(errno));
	job = calloc(1, st.st_size + 1);
	if (!job)
		fail("out of memory");
	while (job_len < (size_t)st.st_size) {
		n = read(fd, job + job_len, st.st_size - job_len);
		if (n <= 0)
			fail("cannot read the job");
		job_len += n;
	}
	close(fd);
}

static void mount_root(void)
{
	try_mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
	try_mount("ctl", "/ctl", "9p", 0, OPTS_9P);
	ctl_fd = open("/ctl", O_PATH | O_CLOEXEC);
	status_fd = open("/ctl/status", O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
	if (status_fd < 0)
		fail("cannot write ctl/status: %s", strerror(errno));
	job_read("/ctl/job");

	try_mount("host", "/host", "9p", MS_RDONLY, OPTS_9P ",cache=loose");
	try_mount("over", "/over", "tmpfs", 0, "mode=755,size=50%");
	mkdir("/over/up", 0755);
	mkdir("/over/work", 0755);
	try_mount("root", "/root", "overlay", 0,
		  "lowerdir=/host,upperdir=/over/up,workdir=/over/work");

	try_mount("proc", "/root/proc", "proc", 0, NULL);
	try_mount("sysfs", "/root/sys", "sysfs", 0, NULL);
	try_mount("/dev", "/root/dev", NULL, MS_MOVE, NULL);
	try_mount("debugfs", "/root/sys/kernel/debug", "debugfs", 0, NULL);
	try_mount("cgroup2", "/root/sys/fs/cgroup", "cgroup2", 0, NULL);
	try_mount("shm", "/root/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777");
	try_mount("devpts", "/root/dev/pts", "devpts", 0, "mode=620,ptmxmode=666");
	try_mount("hugetlbfs", "/root/dev/hugepages", "hugetlbfs", 0, NULL);

	if (chdir("/root") || mount(".", "/", NULL, MS_MOVE, NULL) || chroot("."))
		fail("cannot change the root: %s", strerror(errno));

	symlink("/proc/self/fd", "/dev/fd");
	symlink("/proc/self/fd/0", "/dev/stdin");
	symlink("/proc/self/fd/1", "/dev/stdout");
	symlink("/proc/self/fd/2", "/dev/stderr");
}

static void mount_shares(void)
{
	char **share;

	for (share = job_all("rw"); *share; share++) {
		char *path = strchr(*share, ':');

		if (!path)
			fail("malformed rw= in the job");
		*path++ = 0;
		try_mount(*share, path, "9p", 0, OPTS_9P);
	}
}

static void load_module(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		fail("cannot open %s: %s", path, strerror(errno));
	if (syscall(SYS_finit_module, fd, "", 0) && errno != EEXIST)
		fail("cannot load %s: %s", path, strerror(errno));
	close(fd);
}

static int is_module(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

static void load_first_modules(void)
{
	struct dirent **list;
	char path[300];
	int i, n;

	n = scandir("/modules", &list, is_module, alphasort);
	for (i = 0; i < n; i++) {
		snprintf(path, sizeof(path), "/modules/%s", list[i]->d_name);
		load_module(path);
	}
}

static void load_modules(void)
{
	char **path;

	for (path = job_all("module"); *path; path++)
		load_module(*path);
}

/*
 * KVM switches code on and off as the first VM comes and the last one goes, and
 * with its vCPUs and their interrupt controllers. Kernels with jump labels patch
 * themselves then, and QEMU's processors that run meanwhile may meet what is half
 * patched: an Oops at an int3. So all is switched on before anything else runs, and
 * stays on. (The lab's own kernels have no jump labels. Processors that take turns
 * would help too, but their guests hang sooner: see tcg/lab_tcg.c, which these
 * kernels have not got.)
 */
static void hold_kvm(void)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm, irqchip;

	if (kvm < 0)
		fail("cannot open /dev/kvm: %s", strerror(errno));
	for (irqchip = 0; irqchip < 2; irqchip++) {
		vm = ioctl(kvm, KVM_CREATE_VM, 0ul);
		if (vm < 0 || (irqchip && ioctl(vm, KVM_CREATE_IRQCHIP)) ||
		    ioctl(vm, KVM_CREATE_VCPU, 0ul) < 0)
			fail("cannot hold a VM: %s", strerror(errno));
	}
	close(kvm);
}

static void loopback_up(void)
{
	struct ifreq ifr = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd >= 0) {
		ioctl(fd, SIOCSIFFLAGS, &ifr);
		close(fd);
	}
}

/* Ports appear when the driver has talked to the device: soon, but not at once. */
static int open_port(const char *path, int flags)
{
	int fd, tries;

	for (tries = 0; tries < 10000; tries++) {
		fd = open(path, flags | O_CLOEXEC);
		if (fd >= 0)
			return fd;
		usleep(1000);
	}
	fail("cannot open %s: %s", path, strerror(errno));
	return -1;
}

static void child(int in, int out, int err)
{
	char **argv = job_all("arg"), **envp = job_all("env");
	char *cwd = job_get("cwd");
	sigset_t none;

	signal(SIGPIPE, SIG_DFL);
	setsid();
	if (job_get("tty"))
		ioctl(in, TIOCSCTTY, 0);
	dup2(in, 0);
	dup2(out, 1);
	dup2(err, 2);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (!cwd || chdir(cwd)) {
		fprintf(stderr, "lab: the directory %s cannot be seen inside: in / instead\n", cwd);
		if (chdir("/"))
			_exit(126);
	}
	environ = envp;
	execvp(argv[0], argv);
	fprintf(stderr, "lab: %s: %s\n", argv[0], strerror(errno));
	_exit(errno == ENOENT ? 127 : 126);
}

/* Reap whatever has died; true when @pid was among them. */
static int reap(pid_t pid, int *status)
{
	int st, hit = 0;
	pid_t p;

	while ((p = waitpid(-1, &st, WNOHANG)) > 0) {
		if (p == pid) {
			*status = st;
			hit = 1;
		}
	}
	return hit;
}

static int write_all(int fd, const char *p, ssize_t n)
{
	while (n > 0) {
		ssize_t m = write(fd, p, n);

		if (m < 0 && errno == EINTR)
			continue;
		if (m <= 0)
			return -1;
		p += m;
		n -= m;
	}
	return 0;
}

/* From a pipe to a port, what there is. False at the end of the pipe. */
static int relay(int from, int to)
{
	static char buf[65536];
	ssize_t n;

	while ((n = read(from, buf, sizeof(buf))) > 0)
		write_all(to, buf, n);
	return n < 0 && errno == EAGAIN;
}

/*
 * The host begins its input with one byte of greeting: a read of 0 before that
 * only means that the port is not yet connected.
 */
static void await_greeting(int fd)
{
	int tries;
	char c;

	for (tries = 0; tries < 5000; tries++) {
		if (read(fd, &c, 1) == 1)
			return;
		usleep(1000);
	}
	fail("no input from the host");
}

static int run_on_pipes(int sigfd)
{
	static char in_buf[4096];
	size_t in_pos = 0, in_len = 0;
	int in_port = -1, in_pipe[2] = { -1, -1 };
	int out[2], err[2], out_port, err_port, null, status = 0;
	pid_t pid;

	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	out_port = open_port("/dev/vport0p1", O_WRONLY);
	err_port = open_port("/dev/vport0p2", O_WRONLY);
	if (pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC))
		fail("no pipe: %s", strerror(errno));
	if (job_get("stdin")) {
		in_port = open_port("/dev/vport0p3", O_RDONLY);
		await_greeting(in_port);
		fcntl(in_port, F_SETFL, O_NONBLOCK);
		if (pipe2(in_pipe, O_CLOEXEC))
			fail("no pipe: %s", strerror(errno));
	}

	report_start();
	pid = fork();
	if (pid < 0)
		fail("cannot fork: %s", strerror(errno));
	if (!pid)
		child(in_port < 0 ? null : in_pipe[0], out[1],
		      job_get("merge") ? out[1] : err[1]);
	close(out[1]);
	close(err[1]);
	if (in_port >= 0) {
		close(in_pipe[0]);
		fcntl(in_pipe[1], F_SETFL, O_NONBLOCK);
	}
	fcntl(out[0], F_SETFL, O_NONBLOCK);
	fcntl(err[0], F_SETFL, O_NONBLOCK);

	for (;;) {
		struct pollfd p[] = {
			{ .fd = sigfd, .events = POLLIN },
			{ .fd = out[0], .events = POLLIN },
			{ .fd = err[0], .events = POLLIN },
			{ .fd = in_len ? -1 : in_port, .events = POLLIN },
			{ .fd = in_len ? in_pipe[1] : -1, .events = POLLOUT },
		};
		struct signalfd_siginfo si;

		if (poll(p, 5, -1) < 0)
			continue;
		if (p[1].revents && !relay(out[0], out_port))
			out[0] = -1;
		if (p[2].revents && !relay(err[0], err_port))
			err[0] = -1;
		if (p[3].revents) {
			ssize_t n = read(in_port, in_buf, sizeof(in_buf));

			if (n > 0) {
				in_pos = 0;
				in_len = n;
			} else if (!n || errno != EAGAIN) {
				close(in_pipe[1]);
				in_port = -1;
			}
		}
		if (p[4].revents) {
			ssize_t n = write(in_pipe[1], in_buf + in_pos, in_len);

			if (n > 0) {
				in_pos += n;
				in_len -= n;
			} else if (n < 0 && errno != EAGAIN) {
				close(in_pipe[1]);
				in_port = -1;
				in_len = 0;
			}
		}
		if (p[0].revents) {
			if (read(sigfd, &si, sizeof(si)) != sizeof(si))
				continue;
			if (reap(pid, &status))
				break;
		}
	}
	if (out[0] >= 0)
		relay(out[0], out_port);
	if (err[0] >= 0)
		relay(err[0], err_port);
	return status;
}

/*
 * With kmemleak=on: look for memory that nobody knows of any more.  What it finds
 * goes to the kernel's log.  It takes an object for lost only if that did not
 * change since the look before.
 */
static void look_for_leaks(void)
{
	const char *path = "/sys/kernel/debug/kmemleak";
	char *line = NULL, cmdline[4096] = "";
	int fd = open("/proc/cmdline", O_RDONLY), i;
	FILE *leaks, *log;
	size_t size = 0;

	if (fd < 0 || read(fd, cmdline, sizeof(cmdline) - 1) < 0)
		cmdline[0] = '\0';
	close(fd);
	if (!strstr(cmdline, "kmemleak=on"))
		return;

	fd = open(path, O_WRONLY);
	for (i = 0; i < 2; i++)
		if (fd < 0 || write(fd, "scan", 4) != 4)
			fail("kmemleak=on, but %s: %s", path, strerror(errno));
	close(fd);

	/* All of it, however long it is. */
	fd = open("/proc/sys/kernel/printk_devkmsg", O_WRONLY);
	if (fd < 0 || write(fd, "on\n", 3) != 3)
		fail("printk_devkmsg: %s", strerror(errno));
	close(fd);
	leaks = fopen(path, "r");
	log = fopen("/dev/kmsg", "w");
	if (!leaks || !log)
		fail("kmemleak=on, but %s: %s", path, strerror(errno));
	setvbuf(log, NULL, _IOLBF, 0);
	while (getline(&line, &size, leaks) > 0)
		fprintf(log, "%s", line);
	fprintf(log, "kmemleak: the lab has looked for leaks\n");
	fclose(log);
	fclose(leaks);
}

static int run_on_tty(void)
{
	struct winsize ws = { 0 };
	int tty = open_port("/dev/hvc0", O_RDWR | O_NOCTTY), status = 0;
	pid_t pid;

	sscanf(job_get("tty"), "%hux%hu", &ws.ws_row, &ws.ws_col);
	ioctl(tty, TIOCSWINSZ, &ws);
	report_start();
	pid = fork();
	if (pid < 0)
		fail("cannot fork: %s", strerror(errno));
	if (!pid)
		child(tty, tty, tty);
	while (waitpid(-1, &status, 0) != pid)
		;
	tcdrain(tty);
	return status;
}

int main(void)
{
	struct rlimit core = { 0, RLIM_INFINITY };
	sigset_t chld;
	int status;

	umask(022);
	load_first_modules();
	mount_root();
	mount_shares();
	load_modules();
	if (job_get("hold"))
		hold_kvm();
	loopback_up();
	sethostname("lab", 3);
	setrlimit(RLIMIT_CORE, &core);
	signal(SIGPIPE, SIG_IGN);

	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	if (job_get("tty")) {
		status = run_on_tty();
	} else {
		sigprocmask(SIG_BLOCK, &chld, NULL);
		status = run_on_pipes(signalfd(-1, &chld, SFD_CLOEXEC | SFD_NONBLOCK));
	}

	look_for_leaks();
	if (WIFEXITED(status))
		report("exit %d\n", WEXITSTATUS(status));
	else
		report("signal %d\n", WTERMSIG(status));
	leave();
	return 0;
}
