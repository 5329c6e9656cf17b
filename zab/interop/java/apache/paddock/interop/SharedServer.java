package paddock.interop;

import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import org.apache.zookeeper.PortAssignment;

/** The one launched server behind all client ports of a test's ensemble, while any of them is open. */
final class SharedServer {

    private static int users;
    private static Path dir;
    private static ProcessCnxnFactory server;

    private SharedServer() {
    }

    /** Starts the server for its first user; returns where it listens. */
    static synchronized InetSocketAddress acquire() throws IOException, InterruptedException {
        if (users == 0) {
            dir = Files.createTempDirectory("interop-shared");
            server = new ProcessCnxnFactory();
            server.configure(new InetSocketAddress(InetAddress.getLoopbackAddress(), PortAssignment.unique()), 0, -1, false);
            server.launch(dir.toFile());
        }
        users++;
        return server.getLocalAddress();
    }

    /** Ends the server with its last user. */
    static synchronized void release() {
        if (--users == 0) {
            server.shutdown();
        }
    }
}
