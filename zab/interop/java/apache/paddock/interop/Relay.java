package paddock.interop;

import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.BooleanSupplier;

/** Hands the bytes of every connection on one port to another and back, while it is serving. */
final class Relay implements AutoCloseable {

    private final ServerSocket listener;
    private final InetSocketAddress target;
    private final BooleanSupplier serving;
    private final Set<Socket> open = ConcurrentHashMap.newKeySet();

    Relay(InetSocketAddress address, InetSocketAddress target, BooleanSupplier serving) throws IOException {
        this.target = target;
        this.serving = serving;
        listener = new ServerSocket();
        listener.setReuseAddress(true);
        listener.bind(address);
        daemon(this::accept);
    }

    private void accept() {
        while (true) {
            Socket client;
            try {
                client = listener.accept();
            } catch (IOException closed) {
                return;
            }
            if (!serving.getAsBoolean()) {
                quietClose(client);
                continue;
            }
            open.add(client);
            try {
                Socket server = new Socket();
                open.add(server);
                server.setTcpNoDelay(true);
                client.setTcpNoDelay(true);
                server.connect(target);
                daemon(() -> copy(client, server));
                daemon(() -> copy(server, client));
            } catch (IOException e) {
                quietClose(client);
            }
        }
    }

    private void copy(Socket from, Socket to) {
        try {
            from.getInputStream().transferTo(to.getOutputStream());
            to.shutdownOutput(); // a four-letter word's answer may still be on its way back
        } catch (IOException e) {
            quietClose(from);
            quietClose(to);
        }
    }

    /** Closes the connections, not the port. */
    void cut() {
        for (Socket s : open) {
            quietClose(s);
        }
    }

    @Override
    public void close() {
        try {
            listener.close();
        } catch (IOException e) {
            throw new IllegalStateException(e);
        }
        cut();
    }

    private void quietClose(Socket s) {
        open.remove(s);
        try {
            s.close();
        } catch (IOException alreadyGone) {
            return;
        }
    }

    private static void daemon(Runnable body) {
        Thread t = new Thread(body, "relay");
        t.setDaemon(true);
        t.start();
    }
}
