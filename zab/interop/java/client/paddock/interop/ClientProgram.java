package paddock.interop;

import static paddock.interop.Cases.check;
import static paddock.interop.Cases.equal;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.zookeeper.AsyncCallback;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.KeeperException.Code;
import org.apache.zookeeper.Op;
import org.apache.zookeeper.OpResult;
import org.apache.zookeeper.WatchedEvent;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.Watcher.Event.EventType;
import org.apache.zookeeper.Watcher.Event.KeeperState;
import org.apache.zookeeper.ZooDefs.Ids;
import org.apache.zookeeper.ZooDefs.Perms;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.data.ACL;
import org.apache.zookeeper.data.Id;
import org.apache.zookeeper.data.Stat;

/** Walks through Apache's Java client API, in the form that 3.4 and 3.9 share. Argument: host:port. */
public final class ClientProgram {

    private static String servers;

    private ClientProgram() {
    }

    /** Collects events; await gives the next one. */
    private static final class Events implements Watcher {
        private final BlockingQueue<WatchedEvent> queue = new LinkedBlockingQueue<>();

        @Override
        public void process(WatchedEvent event) {
            queue.add(event);
        }

        WatchedEvent next() throws InterruptedException {
            WatchedEvent e = queue.poll(10, TimeUnit.SECONDS);
            check(e != null, "no event came");
            return e;
        }

        void expect(EventType type, String path) throws InterruptedException {
            WatchedEvent e = next();
            equal(e.getType() + " " + e.getPath(), type + " " + path);
        }

        void expect(KeeperState state) throws InterruptedException {
            WatchedEvent e = next();
            equal(e.getType() + " " + e.getState(), EventType.None + " " + state);
        }

        void none() throws InterruptedException {
            WatchedEvent e = queue.poll(200, TimeUnit.MILLISECONDS);
            check(e == null, "unexpected " + e);
        }
    }

    private static ZooKeeper connect(String suffix, Events events) throws Exception {
        ZooKeeper zk = new ZooKeeper(servers + suffix, 6000, events);
        events.expect(KeeperState.SyncConnected);
        return zk;
    }

    private static ZooKeeper connect() throws Exception {
        return connect("", new Events());
    }

    private static byte[] bytes(String s) {
        return s.getBytes(StandardCharsets.UTF_8);
    }

    private static void refused(Code want, Cases.Case body) throws Exception {
        try {
            body.run();
        } catch (KeeperException e) {
            equal(e.code(), want);
            return;
        }
        throw new AssertionError("not refused with " + want);
    }

    public static void main(String[] args) {
        servers = args[0];
        Cases cases = new Cases();
        cases.add("tree", ClientProgram::tree);
        cases.add("null and empty data", ClientProgram::nullData);
        cases.add("sequential names", ClientProgram::sequential);
        cases.add("ephemerals end with the session", ClientProgram::ephemerals);
        cases.add("one-shot watches", ClientProgram::watches);
        cases.add("ACL and digest", ClientProgram::acl);
        cases.add("multi", ClientProgram::multi);
        cases.add("taking up a session", ClientProgram::takeOver);
        cases.add("wrong password expires", ClientProgram::wrongPassword);
        cases.add("chroot", ClientProgram::chroot);
        cases.add("1 MB of data, and too much", ClientProgram::bigData);
        cases.add("pipelined operations answer in order", ClientProgram::pipeline);
        cases.runAndExit();
    }

    private static void tree() throws Exception {
        ZooKeeper zk = connect();
        equal(zk.create("/t", bytes("v0"), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT), "/t");
        refused(Code.NODEEXISTS, () -> zk.create("/t", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT));
        refused(Code.NONODE, () -> zk.create("/none/x", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT));
        refused(Code.INVALIDACL, () -> zk.create("/noacl", null, Collections.<ACL>emptyList(), CreateMode.PERSISTENT));
        Stat created = zk.exists("/t", false);
        equal(created.getVersion(), 0);
        equal(created.getCzxid(), created.getMzxid());
        equal(created.getDataLength(), 2);
        check(Math.abs(created.getCtime() - System.currentTimeMillis()) < 60_000, "ctime " + created.getCtime());
        Stat set = zk.setData("/t", bytes("v1."), 0);
        equal(set.getVersion(), 1);
        check(set.getMzxid() > created.getMzxid(), "mzxid must grow");
        refused(Code.BADVERSION, () -> zk.setData("/t", bytes("v2"), 0));
        Stat read = new Stat();
        equal(new String(zk.getData("/t", false, read), StandardCharsets.UTF_8), "v1.");
        equal(read, set);
        zk.create("/t/b", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        zk.create("/t/a", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        Stat parent = new Stat();
        List<String> children = zk.getChildren("/t", false, parent);
        Collections.sort(children);
        equal(children, Arrays.asList("a", "b"));
        equal(parent.getNumChildren(), 2);
        equal(parent.getCversion(), 2);
        equal(parent.getPzxid(), zk.exists("/t/a", false).getCzxid());
        refused(Code.NOTEMPTY, () -> zk.delete("/t", -1));
        refused(Code.BADVERSION, () -> zk.delete("/t/a", 7));
        zk.delete("/t/a", 0);
        zk.delete("/t/b", -1);
        zk.delete("/t", 1);
        equal(zk.exists("/t", false), null);
        refused(Code.NONODE, () -> zk.getData("/t", false, null));
        refused(Code.NONODE, () -> zk.getChildren("/t", false));
        refused(Code.NONODE, () -> zk.delete("/t", -1));
        zk.close();
    }

    private static void nullData() throws Exception {
        ZooKeeper zk = connect();
        zk.create("/null", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        zk.create("/empty", new byte[0], Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        Stat st = new Stat();
        equal(zk.getData("/null", false, st), null);
        equal(st.getDataLength(), 0);
        equal(zk.getData("/empty", false, st).length, 0);
        zk.setData("/empty", null, -1);
        equal(zk.getData("/empty", false, null), null);
        zk.close();
    }

    private static void sequential() throws Exception {
        ZooKeeper zk = connect();
        zk.create("/seq", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        equal(zk.create("/seq/n-", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_SEQUENTIAL), "/seq/n-0000000000");
        zk.create("/seq/other", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        zk.delete("/seq/other", -1);
        equal(zk.create("/seq/m", null, Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL_SEQUENTIAL), "/seq/m0000000002");
        equal(zk.create("/seq/", null, Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL_SEQUENTIAL), "/seq/0000000003");
        zk.close();
    }

    private static void ephemerals() throws Exception {
        ZooKeeper observer = connect();
        ZooKeeper owner = connect();
        owner.create("/eph", bytes("x"), Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
        refused(Code.NOCHILDRENFOREPHEMERALS,
            () -> owner.create("/eph/child", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT));
        Events events = new Events();
        equal(observer.exists("/eph", events).getEphemeralOwner(), owner.getSessionId());
        owner.close();
        events.expect(EventType.NodeDeleted, "/eph");
        equal(observer.exists("/eph", false), null);
        observer.close();
    }

    private static void watches() throws Exception {
        ZooKeeper zk = connect();
        ZooKeeper other = connect();
        Events exists = new Events();
        Events data = new Events();
        Events child = new Events();
        equal(zk.exists("/w", exists), null);
        other.create("/w", bytes("0"), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        exists.expect(EventType.NodeCreated, "/w");
        zk.getData("/w", data, null);
        zk.getChildren("/w", child);
        other.setData("/w", bytes("1"), -1);
        data.expect(EventType.NodeDataChanged, "/w");
        other.setData("/w", bytes("2"), -1);
        data.none();
        other.create("/w/c", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        child.expect(EventType.NodeChildrenChanged, "/w");
        other.delete("/w/c", -1);
        child.none();
        zk.getChildren("/w", child);
        zk.exists("/w", exists);
        other.delete("/w", -1);
        exists.expect(EventType.NodeDeleted, "/w");
        child.expect(EventType.NodeDeleted, "/w");
        zk.close();
        other.close();
    }

    private static void acl() throws Exception {
        ZooKeeper ann = connect();
        ZooKeeper bob = connect();
        ann.addAuthInfo("digest", bytes("ann:secret"));
        ann.create("/acl", bytes("x"), Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT);
        refused(Code.NOAUTH, () -> bob.getData("/acl", false, null));
        refused(Code.NOAUTH, () -> bob.setData("/acl", bytes("y"), -1));
        refused(Code.NOAUTH, () -> bob.create("/acl/c", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT));
        Stat st = new Stat();
        List<ACL> list = ann.getACL("/acl", st);
        equal(list.size(), 1);
        equal(list.get(0).getPerms(), Perms.ALL);
        equal(list.get(0).getId(), new Id("digest", "ann:7RJfAeIvrl4zdj6sS2fXrQHDvHM="));
        List<ACL> open = new ArrayList<>(list);
        open.add(new ACL(Perms.READ, Ids.ANYONE_ID_UNSAFE));
        equal(ann.setACL("/acl", open, 0).getAversion(), 1);
        equal(new String(bob.getData("/acl", false, null), StandardCharsets.UTF_8), "x");
        refused(Code.NOAUTH, () -> bob.setData("/acl", bytes("y"), -1));
        refused(Code.INVALIDACL, () -> ann.setACL("/acl", Arrays.asList(new ACL(Perms.ALL, new Id("nosuch", "x"))), -1));
        bob.addAuthInfo("digest", bytes("ann:secret"));
        bob.setData("/acl", bytes("y"), -1);
        ann.delete("/acl", -1);
        ann.close();
        bob.close();
    }

    private static void multi() throws Exception {
        ZooKeeper zk = connect();
        List<OpResult> results = zk.multi(Arrays.asList(
            Op.create("/m", bytes("0"), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT),
            Op.create("/m/s-", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_SEQUENTIAL),
            Op.setData("/m", bytes("1"), 0),
            Op.check("/m", 1)));
        equal(((OpResult.CreateResult) results.get(1)).getPath(), "/m/s-0000000000");
        equal(((OpResult.SetDataResult) results.get(2)).getStat().getVersion(), 1);
        Stat st = zk.exists("/m", false);
        equal(zk.exists("/m/s-0000000000", false).getCzxid(), st.getCzxid());
        try {
            zk.multi(Arrays.asList(
                Op.setData("/m", bytes("2"), 1),
                Op.check("/m", 9),
                Op.delete("/m/s-0000000000", -1)));
            throw new AssertionError("not refused");
        } catch (KeeperException e) {
            equal(e.code(), Code.BADVERSION);
            List<Integer> codes = new ArrayList<>();
            for (OpResult r : e.getResults()) {
                codes.add(((OpResult.ErrorResult) r).getErr());
            }
            equal(codes, Arrays.asList(0, Code.BADVERSION.intValue(), Code.RUNTIMEINCONSISTENCY.intValue()));
        }
        equal(zk.exists("/m", false), st);
        zk.close();
    }

    private static void takeOver() throws Exception {
        for (int i = 0; i < 5; i++) {
            if (tookOver("/held" + i)) {
                return;
            }
        }
        throw new AssertionError("the first client always came back too early");
    }

    /**
     * Takes a session up with a second client. The first comes back a second or two later, and
     * takes the session back: false when that was before the second had closed it.
     */
    private static boolean tookOver(String path) throws Exception {
        Events first = new Events();
        ZooKeeper a = connect("", first);
        a.create(path, null, Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
        Events second = new Events();
        ZooKeeper b = new ZooKeeper(servers, 6000, second, a.getSessionId(), a.getSessionPasswd());
        second.expect(KeeperState.SyncConnected);
        first.expect(KeeperState.Disconnected);
        try {
            equal(b.exists(path, false).getEphemeralOwner(), b.getSessionId());
        } catch (KeeperException.ConnectionLossException e) {
            first.expect(KeeperState.SyncConnected);
            b.close();
            a.close();
            return false;
        }
        b.close();
        KeeperState then = first.next().getState();
        a.close();
        if (then == KeeperState.SyncConnected) {
            return false;
        }
        equal(then, KeeperState.Expired);
        return true;
    }

    private static void wrongPassword() throws Exception {
        ZooKeeper a = connect();
        Events events = new Events();
        ZooKeeper b = new ZooKeeper(servers, 6000, events, a.getSessionId(), new byte[16]);
        events.expect(KeeperState.Expired);
        // Apache drops the rightful client's connection as well, which then comes back.
        for (int i = 0; i < 50; i++) {
            try {
                check(a.exists("/", false) != null, "the root is gone");
                break;
            } catch (KeeperException.ConnectionLossException e) {
                Thread.sleep(100);
            }
        }
        equal(a.getState(), ZooKeeper.States.CONNECTED);
        b.close();
        a.close();
    }

    private static void chroot() throws Exception {
        ZooKeeper zk = connect();
        zk.create("/ch", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        ZooKeeper in = connect("/ch", new Events());
        Events events = new Events();
        in.exists("/x", events);
        equal(in.create("/x", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT), "/x");
        events.expect(EventType.NodeCreated, "/x");
        equal(zk.getChildren("/ch", false), Arrays.asList("x"));
        in.close();
        zk.close();
    }

    private static void bigData() throws Exception {
        ZooKeeper zk = connect();
        byte[] big = new byte[1_000_000];
        Arrays.fill(big, (byte) 7);
        zk.create("/big", big, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        check(Arrays.equals(zk.getData("/big", false, null), big), "data differs");
        refused(Code.CONNECTIONLOSS, () -> zk.setData("/big", new byte[1_100_000], -1));
        zk.close();
    }

    private static void pipeline() throws Exception {
        ZooKeeper zk = connect();
        zk.create("/p", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        int n = 2000;
        List<Integer> order = Collections.synchronizedList(new ArrayList<>());
        AtomicReference<String> wrong = new AtomicReference<>();
        CountDownLatch done = new CountDownLatch(2 * n);
        for (int i = 0; i < n; i++) {
            int id = i;
            zk.create("/p/" + i, bytes("" + i), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT,
                (AsyncCallback.StringCallback) (rc, path, ctx, name) -> {
                    order.add(2 * id);
                    if (rc != 0) {
                        wrong.set("create " + path + ": " + rc);
                    }
                    done.countDown();
                }, null);
            zk.getData("/p/" + i, false, (AsyncCallback.DataCallback) (rc, path, ctx, data, stat) -> {
                order.add(2 * id + 1);
                if (rc != 0 || !new String(data, StandardCharsets.UTF_8).equals("" + id)) {
                    wrong.set("getData " + path + ": " + rc);
                }
                done.countDown();
            }, null);
        }
        check(done.await(30, TimeUnit.SECONDS), "answers are missing");
        equal(wrong.get(), null);
        for (int i = 0; i < 2 * n; i++) {
            equal(order.get(i), i);
        }
        zk.close();
    }
}
