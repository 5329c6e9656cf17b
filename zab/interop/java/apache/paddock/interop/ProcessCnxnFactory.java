package paddock.interop;

import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;
import org.apache.zookeeper.server.ServerCnxn;
import org.apache.zookeeper.server.ServerCnxnFactory;
import org.apache.zookeeper.server.ZooKeeperServer;

/**
 * A connection factory that serves no connection itself: startup launches a server process on the
 * port and data directory that the test chose, and shutdown ends it. Apache's tests create their
 * server through the class named in the system property zookeeper.serverCnxnFactory, so with this
 * one they run against any program that takes a zoo.cfg.
 *
 * <p>The ZooKeeperServer object that a test passes in stays an empty shell; only its settings (data
 * directories, tick time, session timeouts) are read. A test that asks it for its database sees
 * nothing.
 *
 * <p>System properties: interop.server is the command line, its words separated by tabs, to which
 * the path of the zoo.cfg is added; interop.logs is the folder that takes the servers' output.
 */
public final class ProcessCnxnFactory extends ServerCnxnFactory {

    /** How long a server may take to listen, and to go away after it was asked to. */
    private static final long PATIENCE_MS = 60_000;

    /** Properties that are the test client's own, or that name this class: not for the server. */
    private static final List<String> CLIENT_ONLY = Arrays.asList(
        "zookeeper.serverCnxnFactory", "zookeeper.client", "zookeeper.junit", "zookeeper.sasl.client",
        "zookeeper.request.timeout", "zookeeper.disableAutoWatchReset", "zookeeper.admin.",
        "zookeeper.ssl.", "zookeeper.kinit", "zookeeper.test.");

    /** Properties without the prefix that a server reads. A zoo.cfg holds them under the same name. */
    private static final List<String> SERVER_ALSO = Arrays.asList(
        "jute.maxbuffer", "readonlymode.enabled", "znode.container.checkIntervalMs", "znode.container.maxPerMinute");

    private InetSocketAddress address;
    private int maxClientCnxns;
    private int backlog = -1;
    private Process process;
    private Path config;
    private Relay relay;

    @Override
    public void configure(InetSocketAddress addr, int maxcc, int backlog, boolean secure) throws IOException {
        if (secure) {
            throw new IOException("the launched server has no TLS port");
        }
        int port = addr.getPort();
        if (port == 0) {
            try (ServerSocket free = new ServerSocket(0)) {
                port = free.getLocalPort();
            }
        }
        this.address = new InetSocketAddress(addr.getAddress(), port);
        this.maxClientCnxns = maxcc;
        this.backlog = backlog;
        initMaxCnxns();
    }

    @Override
    public void reconfigure(InetSocketAddress addr) {
        throw new UnsupportedOperationException("the port of a launched server is fixed");
    }

    /**
     * Called by itself for a member of an ensemble only. The ensemble's own ports stay in the test's
     * process; its client ports all lead to one launched server.
     */
    @Override
    public synchronized void start() {
        try {
            relay = new Relay(address, SharedServer.acquire(), () -> zkServer != null && zkServer.isRunning());
        } catch (IOException e) {
            throw new IllegalStateException(e);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    @Override
    public synchronized void startup(ZooKeeperServer zks, boolean startServer) throws IOException, InterruptedException {
        setZooKeeperServer(zks);
        launch(zooCfg(zks));
    }

    /** Starts a server of its own with the given data directory and waits until it listens. */
    synchronized void launch(File dataDir) throws IOException, InterruptedException {
        launch(zooCfg(new ZooKeeperServer(dataDir, dataDir, 2000)));
    }

    private void launch(String zooCfg) throws IOException, InterruptedException {
        if (process != null) {
            throw new IOException("already started on port " + getLocalPort());
        }
        Path dir = Files.createTempDirectory("interop");
        config = dir.resolve("zoo.cfg");
        Files.write(config, zooCfg.getBytes(StandardCharsets.UTF_8));

        List<String> command = new ArrayList<>();
        for (String word : System.getProperty("interop.server").split("\t")) {
            if (word.equals("@jvm")) { // an Apache server takes some settings from its command line only
                for (String key : SERVER_ALSO) {
                    if (System.getProperty(key) != null) {
                        command.add("-D" + key + "=" + System.getProperty(key));
                    }
                }
                continue;
            }
            command.add(word);
        }
        command.add(config.toString());
        File log = new File(System.getProperty("interop.logs", dir.toString()), "server-" + getLocalPort() + ".log");
        ProcessBuilder builder = new ProcessBuilder(command)
            .redirectErrorStream(true)
            .redirectInput(new File("/dev/null"))
            .redirectOutput(ProcessBuilder.Redirect.appendTo(log));
        builder.directory(dir.toFile());
        process = builder.start();
        Process launched = process; // not to be left behind by a test that does not shut down
        Runtime.getRuntime().addShutdownHook(new Thread(launched::destroyForcibly));
        LaunchedBeans.add(this);
        awaitListening(log);
    }

    private String zooCfg(ZooKeeperServer zks) {
        Map<String, String> cfg = new TreeMap<>();
        Properties props = System.getProperties();
        for (String name : props.stringPropertyNames()) {
            if (name.startsWith("zookeeper.") && CLIENT_ONLY.stream().noneMatch(name::startsWith)) {
                cfg.put(name.substring("zookeeper.".length()), props.getProperty(name));
            }
        }
        for (String name : SERVER_ALSO) {
            if (props.getProperty(name) != null) {
                cfg.put(name, props.getProperty(name));
            }
        }
        cfg.put("dataDir", zks.getTxnLogFactory().getSnapDir().getParent());
        cfg.put("dataLogDir", zks.getTxnLogFactory().getDataLogDir().getParent());
        cfg.put("tickTime", Integer.toString(zks.getTickTime()));
        cfg.put("minSessionTimeout", Integer.toString(zks.getMinSessionTimeout()));
        cfg.put("maxSessionTimeout", Integer.toString(zks.getMaxSessionTimeout()));
        cfg.put("clientPort", Integer.toString(getLocalPort()));
        InetAddress ip = address.getAddress();
        if (ip != null && !ip.isAnyLocalAddress()) {
            cfg.put("clientPortAddress", ip.getHostAddress());
        }
        cfg.put("maxClientCnxns", Integer.toString(Math.max(maxClientCnxns, 0)));
        if (backlog > 0) {
            cfg.put("clientPortListenBacklog", Integer.toString(backlog));
        }
        // Two tests of the suite run side by side, and several servers in one test.
        cfg.put("admin.enableServer", "false");
        cfg.putIfAbsent("4lw.commands.whitelist", "*");
        StringBuilder text = new StringBuilder();
        cfg.forEach((k, v) -> text.append(k).append('=').append(v.replace("\\", "\\\\")).append('\n'));
        return text.toString();
    }

    private void awaitListening(File log) throws IOException, InterruptedException {
        long deadline = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(PATIENCE_MS);
        while (System.nanoTime() < deadline) {
            if (!process.isAlive()) {
                throw new IOException("the server exited with " + process.exitValue() + ", see " + log);
            }
            if (ask("ruok") != null) {
                return;
            }
            Thread.sleep(20);
        }
        throw new IOException("the server does not listen on port " + getLocalPort() + ", see " + log);
    }

    /** Sends a four-letter word; null when nobody listens. */
    String ask(String word) {
        InetAddress ip = address.getAddress();
        if (ip == null || ip.isAnyLocalAddress()) {
            ip = InetAddress.getLoopbackAddress();
        }
        try (Socket s = new Socket()) {
            s.connect(new InetSocketAddress(ip, getLocalPort()), 2000);
            s.setSoTimeout(5000);
            OutputStream out = s.getOutputStream();
            out.write(word.getBytes(StandardCharsets.US_ASCII));
            out.flush();
            InputStream in = s.getInputStream();
            return new String(in.readAllBytes(), StandardCharsets.UTF_8);
        } catch (IOException e) {
            return null;
        }
    }

    @Override
    public synchronized void shutdown() {
        if (relay != null) {
            relay.close();
            relay = null;
            SharedServer.release();
        }
        if (process == null) {
            return;
        }
        LaunchedBeans.remove(this);
        process.destroy();
        try {
            if (!process.waitFor(PATIENCE_MS, TimeUnit.MILLISECONDS)) {
                process.destroyForcibly().waitFor();
                throw new IllegalStateException("the server on port " + getLocalPort() + " did not end on SIGTERM");
            }
            Files.deleteIfExists(config);
        } catch (InterruptedException e) {
            process.destroyForcibly();
            Thread.currentThread().interrupt();
        } catch (IOException e) {
            throw new IllegalStateException(e);
        } finally {
            process = null;
        }
    }

    @Override
    public void join() throws InterruptedException {
        Process p;
        synchronized (this) {
            p = process;
        }
        if (p != null) {
            p.waitFor();
        }
    }

    @Override
    public int getLocalPort() {
        return address.getPort();
    }

    @Override
    public InetSocketAddress getLocalAddress() {
        return address;
    }

    @Override
    public Iterable<ServerCnxn> getConnections() {
        return Collections.emptyList();
    }

    @Override
    public int getNumAliveConnections() {
        return LaunchedBeans.sessions(this).size();
    }

    @Override
    public void closeAll(ServerCnxn.DisconnectReason reason) {
        if (relay == null) {
            // A test calls it to cut its clients off, which only the server's own process can do.
            throw new UnsupportedOperationException("connections are the launched server's");
        }
        relay.cut();
    }

    @Override
    public int getMaxClientCnxnsPerHost() {
        return maxClientCnxns;
    }

    @Override
    public void setMaxClientCnxnsPerHost(int max) {
        maxClientCnxns = max;
    }

    @Override
    public int getSocketListenBacklog() {
        return backlog;
    }

    @Override
    public void resetAllConnectionStats() {
        ask("crst");
    }

    @Override
    public Iterable<Map<String, Object>> getAllConnectionInfo(boolean brief) {
        return Collections.emptyList();
    }
}
