import Errors
import Foundation
import Linux

/// A server of many connections in a container, which sends back what it gets: busybox has none that takes 200 at once.
struct PortServer {
    /// Where containers see it.
    static let directory = "/bench"
    static let port: UInt16 = 7

    /// Builds it without shared libraries.
    ///
    /// - Parameter directory: on the node; mounted into containers.
    static func build(in directory: String) async throws {
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        try source.write(toFile: directory + "/echo.c", atomically: false, encoding: .utf8)
        let result = try await Spawn(
            "/usr/bin/gcc", ["-O2", "-static", "-o", directory + "/echo", directory + "/echo.c"],
            environment: ["PATH": "/usr/bin:/bin"]
        ).run()
        guard result.succeeded else { throw SwiftletError(.internal, "building the server: \(result.errorText)") }
    }

    private static let source = """
        #include <arpa/inet.h>
        #include <signal.h>
        #include <stdio.h>
        #include <sys/epoll.h>
        #include <sys/socket.h>
        #include <unistd.h>

        int main(void) {
            int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0), epoll = epoll_create1(0);
            struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(\(port))};
            struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
            char bytes[4096];
            signal(SIGPIPE, SIG_IGN);
            setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
            if (bind(listener, (struct sockaddr *)&any, sizeof any) != 0 || listen(listener, 1024) != 0) return 1;
            epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
            puts("listening");
            fflush(stdout);
            while (epoll_wait(epoll, &event, 1, -1) >= 0) {
                int fd = event.data.fd;
                if (fd == listener) {
                    event.data.fd = accept(listener, 0, 0);
                    if (event.data.fd >= 0) epoll_ctl(epoll, EPOLL_CTL_ADD, event.data.fd, &event);
                } else {
                    ssize_t n = read(fd, bytes, sizeof bytes);
                    if (n <= 0 || write(fd, bytes, (size_t)n) != n) close(fd);
                }
            }
            return 0;
        }

        """
}
