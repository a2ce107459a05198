// forwarder: the floor below which no proxy of four socket calls a request can come. It connects each client to a backend and
// passes bytes on; it parses nothing, pools nothing, limits nothing, logs nothing, counts nothing.
//
//   cc -O2 -o /tmp/forwarder bench/forwarder.c
//   bench/l7 --proxy 'floor=/tmp/forwarder {http} {backend1} {backend2}' --pin
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static int peer[1 << 16];

static void fail(const char *what) { perror(what); exit(1); }

// address reads PORT or HOST:PORT.
static struct sockaddr_in address(const char *s) {
	char host[64] = "127.0.0.1";
	const char *colon = strrchr(s, ':');
	if (colon) snprintf(host, sizeof host, "%.*s", (int)(colon - s), s);
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(atoi(colon ? colon + 1 : s))};
	if (inet_pton(AF_INET, host, &a.sin_addr) != 1) fail(s);
	return a;
}

static void watch(int ep, int fd, unsigned events) {
	int one = 1;
	struct epoll_event e = {.events = events, .data.fd = fd};
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e)) fail("epoll_ctl");
}

int main(int argc, char **argv) {
	if (argc < 3) return fprintf(stderr, "forwarder LISTEN BACKEND...\n"), 2;
	struct rlimit most = {sizeof peer / sizeof *peer, sizeof peer / sizeof *peer};
	setrlimit(RLIMIT_NOFILE, &most);
	struct sockaddr_in a = address(argv[1]);
	int one = 1, turn = 0, ep = epoll_create1(0), l = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(l, (void *)&a, sizeof a) || listen(l, 4096)) fail(argv[1]);
	watch(ep, l, EPOLLIN);
	static char b[64 << 10];
	static struct epoll_event ev[256];
	for (;;) {
		int n = epoll_wait(ep, ev, 256, -1);
		for (int i = 0; i < n; i++) {
			int fd = ev[i].data.fd;
			if (fd == l) {
				int c = accept(l, 0, 0), u = socket(AF_INET, SOCK_STREAM, 0);
				struct sockaddr_in to = address(argv[2 + turn++ % (argc - 2)]);
				if (c < 0 || u < 0 || connect(u, (void *)&to, sizeof to)) fail("connect");
				peer[c] = u, peer[u] = c;
				watch(ep, c, EPOLLIN | EPOLLET);
				watch(ep, u, EPOLLIN | EPOLLET);
				continue;
			}
			if (!peer[fd]) continue; // its peer has ended it
			ssize_t r = recv(fd, b, sizeof b, MSG_DONTWAIT);
			if (r < 0 && errno == EAGAIN) continue;
			if (r > 0 && send(peer[fd], b, r, MSG_NOSIGNAL) == r) continue;
			int p = peer[fd];
			peer[fd] = peer[p] = 0;
			close(fd), close(p);
		}
	}
}
