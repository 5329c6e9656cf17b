/*
 * Walks through Debian's C client API against a server and prints
 * "PASS name" or "FAIL name: reason" for each case. Argument: host:port.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <execinfo.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <zookeeper/zookeeper.h>

static const char *servers, *running; /* the case */
static char failure[512];

static int fail(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(failure, sizeof failure, format, args);
	va_end(args);
	return 0;
}

#define CHECK(ok, ...) do { if (!(ok)) return fail(__VA_ARGS__); } while (0)
#define EQUAL(got, want) do { \
	long long g_ = (got), w_ = (want); \
	if (g_ != w_) return fail("line %d: %s is %lld, want %lld", __LINE__, #got, g_, w_); \
} while (0)

struct events {
	pthread_mutex_t mu;
	pthread_cond_t more;
	int n, type[64], state[64];
	char path[64][64];
	int taken;
};

/*
 * Events are never freed: a case that fails leaves its handles open, and their
 * threads go on to call watch.
 */
static struct events *events_new(void)
{
	struct events *e = calloc(1, sizeof *e);
	pthread_condattr_t attr;
	if (e == NULL)
		abort();
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_mutex_init(&e->mu, NULL);
	pthread_cond_init(&e->more, &attr);
	return e;
}

static void watch(zhandle_t *zh, int type, int state, const char *path, void *ctx)
{
	struct events *e = ctx;
	(void)zh;
	if (e == NULL)
		return;
	pthread_mutex_lock(&e->mu);
	if (e->n < 64) {
		e->type[e->n] = type;
		e->state[e->n] = state;
		snprintf(e->path[e->n], sizeof e->path[0], "%s", path ? path : "");
		e->n++;
	}
	pthread_cond_broadcast(&e->more);
	pthread_mutex_unlock(&e->mu);
}

/* Takes the next event; -1 after ten seconds. */
static int next(struct events *e)
{
	struct timespec until;
	int i = -1;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += 10;
	pthread_mutex_lock(&e->mu);
	while (e->taken == e->n)
		if (pthread_cond_timedwait(&e->more, &e->mu, &until) == ETIMEDOUT)
			break;
	if (e->taken < e->n)
		i = e->taken++;
	pthread_mutex_unlock(&e->mu);
	return i;
}

#define EVENT(e, want_type, want_path) do { \
	int i_ = next(e); \
	CHECK(i_ >= 0, "line %d: no event", __LINE__); \
	EQUAL((e)->type[i_], want_type); \
	CHECK(strcmp((e)->path[i_], want_path) == 0, "line %d: event on %s", __LINE__, (e)->path[i_]); \
} while (0)

#define STATE(e, want) do { \
	int i_ = next(e); \
	CHECK(i_ >= 0, "line %d: no event", __LINE__); \
	EQUAL((e)->type[i_], ZOO_SESSION_EVENT); \
	EQUAL((e)->state[i_], want); \
} while (0)

static zhandle_t *dial(void)
{
	struct events *e = events_new();
	zhandle_t *zh = zookeeper_init(servers, watch, 10000, NULL, e, 0);
	int i = zh ? next(e) : -1;
	return i >= 0 && e->state[i] == ZOO_CONNECTED_STATE ? zh : NULL;
}

static int tree(void)
{
	zhandle_t *zh = dial();
	CHECK(zh, "not connected");
	char path[128], data[128];
	int len = sizeof data;
	struct Stat st, st2;
	struct String_vector names;

	EQUAL(zoo_create(zh, "/c", "one", 3, &ZOO_OPEN_ACL_UNSAFE, 0, path, sizeof path), ZOK);
	EQUAL(zoo_create(zh, "/c", "one", 3, &ZOO_OPEN_ACL_UNSAFE, 0, path, sizeof path), ZNODEEXISTS);
	EQUAL(zoo_create(zh, "/no/c", "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, path, sizeof path), ZNONODE);
	EQUAL(zoo_create(zh, "/c/s-", NULL, -1, &ZOO_OPEN_ACL_UNSAFE, ZOO_SEQUENCE, path, sizeof path), ZOK);
	CHECK(strcmp(path, "/c/s-0000000000") == 0, "name %s", path);
	EQUAL(zoo_create2(zh, "/c/two", "2", 1, &ZOO_OPEN_ACL_UNSAFE, 0, path, sizeof path, &st), ZOK);
	EQUAL(st.dataLength, 1);
	EQUAL(zoo_exists(zh, "/c/two", 0, &st2), ZOK);
	EQUAL(st2.czxid, st.czxid);
	EQUAL(st2.ctime, st.ctime);
	EQUAL(st2.pzxid, st.pzxid);
	EQUAL(zoo_get(zh, "/c", 0, data, &len, &st), ZOK);
	EQUAL(len, 3);
	EQUAL(memcmp(data, "one", 3), 0);
	EQUAL(st.numChildren, 2);
	EQUAL(st.cversion, 2);
	EQUAL(st.pzxid, st2.czxid);
	len = sizeof data;
	EQUAL(zoo_get(zh, "/c/s-0000000000", 0, data, &len, &st), ZOK);
	EQUAL(len, -1);
	EQUAL(zoo_set2(zh, "/c", "three", 5, 0, &st), ZOK);
	EQUAL(st.version, 1);
	EQUAL(zoo_set(zh, "/c", "x", 1, 0), ZBADVERSION);
	EQUAL(zoo_get_children2(zh, "/c", 0, &names, &st), ZOK);
	EQUAL(names.count, 2);
	deallocate_String_vector(&names);
	EQUAL(zoo_delete(zh, "/c", -1), ZNOTEMPTY);
	EQUAL(zoo_delete(zh, "/c/two", 5), ZBADVERSION);
	EQUAL(zoo_delete(zh, "/c/two", 0), ZOK);
	EQUAL(zoo_exists(zh, "/c/two", 0, &st), ZNONODE);
	EQUAL(zoo_create(zh, "/cont", "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_CONTAINER, path, sizeof path), ZOK);
	EQUAL(zoo_create2_ttl(zh, "/ttl", "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT_WITH_TTL, 60000, path, sizeof path, &st), ZOK);
	EQUAL(zookeeper_close(zh), ZOK);
	return 1;
}

static int watches(void)
{
	struct events *data = events_new(), *child = events_new();
	zhandle_t *a = dial(), *b = dial();
	char buf[16];
	int len = sizeof buf;
	struct Stat st;
	struct String_vector names;
	CHECK(a && b, "not connected");
	EQUAL(zoo_wexists(a, "/cw", watch, data, &st), ZNONODE);
	EQUAL(zoo_create(b, "/cw", "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0), ZOK);
	EVENT(data, ZOO_CREATED_EVENT, "/cw");
	EQUAL(zoo_wget(a, "/cw", watch, data, buf, &len, &st), ZOK);
	EQUAL(zoo_wget_children(a, "/cw", watch, child, &names), ZOK);
	deallocate_String_vector(&names);
	EQUAL(zoo_set(b, "/cw", "x", 1, -1), ZOK);
	EVENT(data, ZOO_CHANGED_EVENT, "/cw");
	EQUAL(zoo_create(b, "/cw/1", "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0), ZOK);
	EVENT(child, ZOO_CHILD_EVENT, "/cw");
	EQUAL(zoo_delete(b, "/cw/1", -1), ZOK);
	len = sizeof buf;
	EQUAL(zoo_wget(a, "/cw", watch, data, buf, &len, &st), ZOK);
	EQUAL(zoo_remove_watches(a, "/cw", ZWATCHTYPE_DATA, watch, data, 0), ZOK);
	EQUAL(zoo_delete(b, "/cw", -1), ZOK);
	EQUAL(zoo_exists(a, "/cw", 0, &st), ZNONODE); /* an event would have come before this answer */
	EQUAL(data->n, data->taken);
	zookeeper_close(a);
	zookeeper_close(b);
	return 1;
}

static int ephemerals(void)
{
	struct events *gone = events_new();
	zhandle_t *a = dial(), *b = dial();
	struct Stat st;
	CHECK(a && b, "not connected");
	EQUAL(zoo_create(b, "/ce", "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_EPHEMERAL, NULL, 0), ZOK);
	EQUAL(zoo_wexists(a, "/ce", watch, gone, &st), ZOK);
	EQUAL(st.ephemeralOwner, zoo_client_id(b)->client_id);
	EQUAL(zoo_create(a, "/ce/x", "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0), ZNOCHILDRENFOREPHEMERALS);
	zookeeper_close(b);
	EVENT(gone, ZOO_DELETED_EVENT, "/ce");
	zookeeper_close(a);
	return 1;
}

/*
 * A process dies with its session open, another takes the session up. Two
 * handles in one process would not do: each reconnects when the other has taken
 * the session, and so takes it back.
 */
static int session(void)
{
	struct events *ev;
	zhandle_t *zh;
	struct Stat st;
	clientid_t id, wrong;
	int ends[2];
	CHECK(pipe(ends) == 0, "pipe: %s", strerror(errno));
	pid_t first = fork();
	CHECK(first >= 0, "fork: %s", strerror(errno));
	if (first == 0) {
		alarm(30); /* at the latest */
		zh = dial();
		if (zh && zoo_create(zh, "/cs", "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_EPHEMERAL, NULL, 0) == ZOK &&
		    write(ends[1], zoo_client_id(zh), sizeof id) == sizeof id)
			pause();
		_exit(1);
	}
	close(ends[1]);
	ssize_t got = read(ends[0], &id, sizeof id);
	close(ends[0]);
	kill(first, SIGKILL);
	waitpid(first, NULL, 0);
	EQUAL(got, sizeof id);

	wrong = id;
	memset(wrong.passwd, 7, sizeof wrong.passwd);
	ev = events_new();
	zh = zookeeper_init(servers, watch, 10000, &wrong, ev, 0);
	CHECK(zh, "no handle");
	STATE(ev, ZOO_EXPIRED_SESSION_STATE);
	zookeeper_close(zh);

	ev = events_new();
	zh = zookeeper_init(servers, watch, 10000, &id, ev, 0);
	CHECK(zh, "no handle");
	STATE(ev, ZOO_CONNECTED_STATE);
	EQUAL(zoo_client_id(zh)->client_id, id.client_id);
	EQUAL(zoo_exists(zh, "/cs", 0, &st), ZOK);
	EQUAL(st.ephemeralOwner, id.client_id);
	EQUAL(zookeeper_close(zh), ZOK);
	return 1;
}

static void done(int rc, const void *ctx)
{
	volatile int *out = (volatile int *)ctx;
	*out = rc;
}

static int wait_for(volatile int *rc)
{
	for (int i = 0; i < 1000 && *rc == -9999; i++)
		usleep(10000);
	return *rc;
}

static int acl(void)
{
	zhandle_t *a = dial(), *b = dial();
	char buf[16];
	int len = sizeof buf;
	struct Stat st;
	struct ACL_vector list;
	static volatile int rc = -9999; /* a handle left open may still set it */
	CHECK(a && b, "not connected");
	EQUAL(zoo_add_auth(a, "digest", "ann:secret", 10, done, (void *)&rc), ZOK);
	EQUAL(wait_for(&rc), ZOK);
	EQUAL(zoo_create(a, "/cacl", "x", 1, &ZOO_CREATOR_ALL_ACL, 0, NULL, 0), ZOK);
	EQUAL(zoo_get(b, "/cacl", 0, buf, &len, &st), ZNOAUTH);
	EQUAL(zoo_get_acl(a, "/cacl", &list, &st), ZOK);
	EQUAL(list.count, 1);
	CHECK(strcmp(list.data[0].id.id, "ann:7RJfAeIvrl4zdj6sS2fXrQHDvHM=") == 0, "id %s", list.data[0].id.id);
	deallocate_ACL_vector(&list);
	EQUAL(zoo_set_acl(a, "/cacl", 0, &ZOO_READ_ACL_UNSAFE), ZOK);
	len = sizeof buf;
	EQUAL(zoo_get(b, "/cacl", 0, buf, &len, &st), ZOK);
	EQUAL(zoo_set(b, "/cacl", "y", 1, -1), ZNOAUTH);
	rc = -9999;
	EQUAL(zoo_add_auth(b, "nosuch", "x", 1, done, (void *)&rc), ZOK);
	EQUAL(wait_for(&rc), ZAUTHFAILED);
	zookeeper_close(a);
	zookeeper_close(b);
	return 1;
}

static int multi(void)
{
	zhandle_t *zh = dial();
	char path[64];
	struct Stat st;
	zoo_op_t ops[3];
	zoo_op_result_t results[3];
	CHECK(zh, "not connected");
	zoo_create_op_init(&ops[0], "/cm", "0", 1, &ZOO_OPEN_ACL_UNSAFE, 0, path, sizeof path);
	zoo_set_op_init(&ops[1], "/cm", "1", 1, 0, &st);
	zoo_check_op_init(&ops[2], "/cm", 1);
	EQUAL(zoo_multi(zh, 3, ops, results), ZOK);
	EQUAL(st.version, 1);
	zoo_set_op_init(&ops[0], "/cm", "2", 1, 1, &st);
	zoo_check_op_init(&ops[1], "/cm", 9);
	zoo_delete_op_init(&ops[2], "/cm", -1);
	EQUAL(zoo_multi(zh, 3, ops, results), ZBADVERSION);
	EQUAL(results[0].err, ZOK);
	EQUAL(results[1].err, ZBADVERSION);
	EQUAL(results[2].err, ZRUNTIMEINCONSISTENCY);
	EQUAL(zoo_exists(zh, "/cm", 0, &st), ZOK);
	EQUAL(st.version, 1);
	zookeeper_close(zh);
	return 1;
}

static volatile int answered, wrong;

static void on_data(int rc, const char *value, int len, const struct Stat *st, const void *ctx)
{
	char want[16];
	(void)st;
	int n = snprintf(want, sizeof want, "%ld", (long)(intptr_t)ctx);
	if (rc != ZOK || len != n || memcmp(value, want, n) != 0 || (intptr_t)ctx != answered)
		wrong++;
	answered++;
}

static void on_create(int rc, const char *value, const void *ctx)
{
	(void)value;
	(void)ctx;
	if (rc != ZOK)
		wrong++;
}

static int pipeline(void)
{
	zhandle_t *zh = dial();
	char path[32], data[16];
	CHECK(zh, "not connected");
	EQUAL(zoo_create(zh, "/cp", "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0), ZOK);
	for (long i = 0; i < 1000; i++) {
		snprintf(path, sizeof path, "/cp/%ld", i);
		int n = snprintf(data, sizeof data, "%ld", i);
		EQUAL(zoo_acreate(zh, path, data, n, &ZOO_OPEN_ACL_UNSAFE, 0, on_create, NULL), ZOK);
		EQUAL(zoo_aget(zh, path, 0, on_data, (void *)(intptr_t)i), ZOK);
	}
	for (int i = 0; i < 2000 && answered < 1000; i++)
		usleep(10000);
	EQUAL(answered, 1000);
	EQUAL(wrong, 0);
	zookeeper_close(zh);
	return 1;
}

/* Sends a connect request and returns the length of the answer's frame, or -1. */
static int handshake(int with_read_only)
{
	unsigned char req[49] = {0}, answer[4], body[64];
	int len = with_read_only ? 45 : 44, port = atoi(strchr(servers, ':') + 1);
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct timeval limit = {.tv_sec = 5};
	inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
	req[3] = len;
	req[4 + 4 + 8 + 2] = 10000 >> 8; /* version, last zxid, timeout */
	req[4 + 4 + 8 + 3] = 10000 & 255;
	req[4 + 4 + 8 + 4 + 8 + 3] = 16; /* session id, password */
	int s = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	int got = -1;
	if (connect(s, (struct sockaddr *)&to, sizeof to) == 0 && write(s, req, len + 4) == len + 4 &&
	    recv(s, answer, 4, MSG_WAITALL) == 4) {
		got = answer[2] << 8 | answer[3];
		if (got > (int)sizeof body || recv(s, body, got, MSG_WAITALL) != got)
			got = -1;
	}
	close(s);
	return got;
}

/* A client of 3.3 sends no read-only byte and expects none back. */
static int read_only_byte(void)
{
	EQUAL(handshake(1), 37);
	EQUAL(handshake(0), 36);
	return 1;
}

/* Tells where a test that waits too long found the program. */
static void on_quit(int sig)
{
	void *calls[32];
	(void)sig;
	if (write(2, "in the case ", 12) == 12 && write(2, running, strlen(running)) > 0 && write(2, "\n", 1) == 1)
		backtrace_symbols_fd(calls, backtrace(calls, 32), 2);
	_exit(3);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(void);
	} cases[] = {
		{"tree", tree},
		{"watches", watches},
		{"ephemerals", ephemerals},
		{"session taken up, wrong password expired", session},
		{"ACL and digest", acl},
		{"multi", multi},
		{"pipeline", pipeline},
		{"answer without the read-only byte", read_only_byte},
	};
	int failed = 0;
	if (argc != 2)
		return 2;
	servers = argv[1];
	running = "start";
	signal(SIGQUIT, on_quit);
	zoo_set_debug_level(0);
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		running = cases[i].name;
		if (cases[i].run()) {
			printf("PASS %s\n", cases[i].name);
		} else {
			printf("FAIL %s: %s\n", cases[i].name, failure);
			failed = 1;
		}
		fflush(stdout);
	}
	return failed;
}
