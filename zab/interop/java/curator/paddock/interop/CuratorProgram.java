package paddock.interop;

import static paddock.interop.Cases.check;
import static paddock.interop.Cases.equal;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.api.transaction.CuratorTransactionResult;
import org.apache.curator.framework.recipes.atomic.AtomicValue;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicLong;
import org.apache.curator.framework.recipes.barriers.DistributedBarrier;
import org.apache.curator.framework.recipes.barriers.DistributedDoubleBarrier;
import org.apache.curator.framework.recipes.cache.ChildData;
import org.apache.curator.framework.recipes.cache.CuratorCache;
import org.apache.curator.framework.recipes.cache.CuratorCacheListener;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.leader.LeaderSelector;
import org.apache.curator.framework.recipes.leader.LeaderSelectorListenerAdapter;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.locks.InterProcessReadWriteLock;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreV2;
import org.apache.curator.framework.recipes.locks.Lease;
import org.apache.curator.framework.recipes.nodes.GroupMember;
import org.apache.curator.framework.recipes.nodes.PersistentNode;
import org.apache.curator.framework.recipes.queue.DistributedQueue;
import org.apache.curator.framework.recipes.queue.QueueBuilder;
import org.apache.curator.framework.recipes.queue.QueueConsumer;
import org.apache.curator.framework.recipes.queue.QueueSerializer;
import org.apache.curator.framework.recipes.shared.SharedCount;
import org.apache.curator.framework.recipes.watch.PersistentWatcher;
import org.apache.curator.framework.state.ConnectionState;
import org.apache.curator.retry.ExponentialBackoffRetry;
import org.apache.curator.x.discovery.ServiceCache;
import org.apache.curator.x.discovery.ServiceDiscovery;
import org.apache.curator.x.discovery.ServiceDiscoveryBuilder;
import org.apache.curator.x.discovery.ServiceInstance;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.WatchedEvent;
import org.apache.zookeeper.data.Stat;

/** Runs Curator's recipes with two clients. Argument: host:port. */
public final class CuratorProgram {

    private static CuratorFramework one;
    private static CuratorFramework two;

    private CuratorProgram() {
    }

    private static CuratorFramework client(String servers) throws InterruptedException {
        CuratorFramework c = CuratorFrameworkFactory.builder()
            .connectString(servers)
            .sessionTimeoutMs(10_000)
            .retryPolicy(new ExponentialBackoffRetry(100, 5))
            .build();
        c.start();
        check(c.blockUntilConnected(20, TimeUnit.SECONDS), "not connected");
        return c;
    }

    public static void main(String[] args) throws Exception {
        one = client(args[0]);
        two = client(args[0]);
        Cases cases = new Cases();
        cases.add("InterProcessMutex", CuratorProgram::mutex);
        cases.add("InterProcessReadWriteLock", CuratorProgram::readWriteLock);
        cases.add("InterProcessSemaphoreV2", CuratorProgram::semaphore);
        cases.add("LeaderLatch", CuratorProgram::leaderLatch);
        cases.add("LeaderSelector", CuratorProgram::leaderSelector);
        cases.add("CuratorCache", CuratorProgram::cache);
        cases.add("PathChildrenCache", CuratorProgram::pathChildrenCache);
        cases.add("TreeCache", CuratorProgram::treeCache);
        cases.add("PersistentNode", CuratorProgram::persistentNode);
        cases.add("PersistentWatcher", CuratorProgram::persistentWatcher);
        cases.add("GroupMember", CuratorProgram::groupMember);
        cases.add("DistributedQueue", CuratorProgram::queue);
        cases.add("DistributedBarrier", CuratorProgram::barrier);
        cases.add("DistributedDoubleBarrier", CuratorProgram::doubleBarrier);
        cases.add("DistributedAtomicLong", CuratorProgram::atomicLong);
        cases.add("SharedCount", CuratorProgram::sharedCount);
        cases.add("transactions", CuratorProgram::transaction);
        cases.add("protected ephemeral sequential, container and TTL nodes", CuratorProgram::modes);
        cases.add("background operations", CuratorProgram::background);
        cases.add("ServiceDiscovery", CuratorProgram::discovery);
        cases.runAndExit();
    }

    private static byte[] bytes(String s) {
        return s.getBytes(StandardCharsets.UTF_8);
    }

    private static <T> T next(BlockingQueue<T> queue) throws InterruptedException {
        T v = queue.poll(10, TimeUnit.SECONDS);
        check(v != null, "nothing came");
        return v;
    }

    private static void eventually(String what, java.util.concurrent.Callable<Boolean> ok) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(10);
        while (!ok.call()) {
            check(System.nanoTime() < deadline, what);
            Thread.sleep(5);
        }
    }

    private static void mutex() throws Exception {
        AtomicInteger inside = new AtomicInteger();
        AtomicInteger rounds = new AtomicInteger();
        ExecutorService pool = Executors.newFixedThreadPool(4);
        List<Future<?>> all = new ArrayList<>();
        for (int i = 0; i < 4; i++) {
            InterProcessMutex lock = new InterProcessMutex(i % 2 == 0 ? one : two, "/mutex");
            all.add(pool.submit(() -> {
                for (int n = 0; n < 15; n++) {
                    lock.acquire();
                    lock.acquire(); // reentrant
                    equal(inside.incrementAndGet(), 1);
                    rounds.incrementAndGet();
                    inside.decrementAndGet();
                    lock.release();
                    lock.release();
                }
                return null;
            }));
        }
        for (Future<?> f : all) {
            f.get(60, TimeUnit.SECONDS);
        }
        pool.shutdown();
        equal(rounds.get(), 60);
        equal(one.getChildren().forPath("/mutex"), Collections.emptyList());
    }

    private static void readWriteLock() throws Exception {
        InterProcessReadWriteLock a = new InterProcessReadWriteLock(one, "/rw");
        InterProcessReadWriteLock b = new InterProcessReadWriteLock(two, "/rw");
        a.readLock().acquire();
        check(b.readLock().acquire(5, TimeUnit.SECONDS), "two readers");
        check(!b.writeLock().acquire(300, TimeUnit.MILLISECONDS), "a writer beside a reader");
        a.readLock().release();
        b.readLock().release();
        check(b.writeLock().acquire(5, TimeUnit.SECONDS), "a writer alone");
        check(!a.readLock().acquire(300, TimeUnit.MILLISECONDS), "a reader beside a writer");
        b.writeLock().release();
    }

    private static void semaphore() throws Exception {
        InterProcessSemaphoreV2 a = new InterProcessSemaphoreV2(one, "/sem", 2);
        InterProcessSemaphoreV2 b = new InterProcessSemaphoreV2(two, "/sem", 2);
        Lease first = a.acquire();
        Lease second = b.acquire(5, TimeUnit.SECONDS);
        check(second != null, "two leases");
        equal(a.acquire(300, TimeUnit.MILLISECONDS), null);
        b.returnLease(second);
        Lease third = a.acquire(5, TimeUnit.SECONDS);
        check(third != null, "a lease that came back");
        a.returnLease(first);
        a.returnLease(third);
    }

    private static void leaderLatch() throws Exception {
        LeaderLatch a = new LeaderLatch(one, "/latch", "a");
        LeaderLatch b = new LeaderLatch(two, "/latch", "b");
        a.start();
        check(a.await(10, TimeUnit.SECONDS), "a leads");
        b.start();
        check(!b.await(300, TimeUnit.MILLISECONDS), "b must wait");
        equal(b.getLeader().getId(), "a");
        a.close();
        check(b.await(10, TimeUnit.SECONDS), "b leads after a");
        b.close();
    }

    private static void leaderSelector() throws Exception {
        AtomicInteger inside = new AtomicInteger();
        CountDownLatch turns = new CountDownLatch(6);
        List<LeaderSelector> all = new ArrayList<>();
        for (CuratorFramework c : Arrays.asList(one, two)) {
            LeaderSelector s = new LeaderSelector(c, "/selector", new LeaderSelectorListenerAdapter() {
                @Override
                public void takeLeadership(CuratorFramework client) throws Exception {
                    if (inside.incrementAndGet() == 1) {
                        turns.countDown();
                    }
                    inside.decrementAndGet();
                }

                @Override
                public void stateChanged(CuratorFramework client, ConnectionState state) {
                    super.stateChanged(client, state);
                }
            });
            s.autoRequeue();
            s.start();
            all.add(s);
        }
        check(turns.await(20, TimeUnit.SECONDS), "six turns of leadership");
        for (LeaderSelector s : all) {
            s.close();
        }
    }

    private static void cache() throws Exception {
        BlockingQueue<String> seen = new LinkedBlockingQueue<>();
        one.create().forPath("/cache", bytes("0"));
        CuratorCache cache = CuratorCache.build(two, "/cache");
        CountDownLatch ready = new CountDownLatch(1);
        cache.listenable().addListener(CuratorCacheListener.builder()
            .forInitialized(ready::countDown)
            .forCreates(n -> seen.add("created " + n.getPath()))
            .forChanges((old, n) -> seen.add("changed " + n.getPath() + " " + new String(n.getData(), StandardCharsets.UTF_8)))
            .forDeletes(n -> seen.add("deleted " + n.getPath()))
            .build());
        cache.start();
        check(ready.await(10, TimeUnit.SECONDS), "initialized");
        equal(next(seen), "created /cache");
        one.create().creatingParentsIfNeeded().forPath("/cache/a/b", bytes("1"));
        equal(new HashSet<>(Arrays.asList(next(seen), next(seen))),
            new HashSet<>(Arrays.asList("created /cache/a", "created /cache/a/b")));
        one.setData().forPath("/cache/a/b", bytes("2"));
        equal(next(seen), "changed /cache/a/b 2");
        one.delete().forPath("/cache/a/b");
        equal(next(seen), "deleted /cache/a/b");
        equal(cache.get("/cache/a").map(ChildData::getPath).orElse(null), "/cache/a");
        cache.close();
    }

    @SuppressWarnings("deprecation")
    private static void pathChildrenCache() throws Exception {
        one.create().forPath("/pcc");
        one.create().forPath("/pcc/a", bytes("1"));
        org.apache.curator.framework.recipes.cache.PathChildrenCache cache =
            new org.apache.curator.framework.recipes.cache.PathChildrenCache(two, "/pcc", true);
        BlockingQueue<String> seen = new LinkedBlockingQueue<>();
        cache.getListenable().addListener((c, e) -> {
            if (e.getData() != null) {
                seen.add(e.getType() + " " + e.getData().getPath());
            }
        });
        cache.start(org.apache.curator.framework.recipes.cache.PathChildrenCache.StartMode.BUILD_INITIAL_CACHE);
        equal(cache.getCurrentData().size(), 1);
        one.create().withMode(CreateMode.EPHEMERAL).forPath("/pcc/b", bytes("2"));
        equal(next(seen), "CHILD_ADDED /pcc/b");
        one.setData().forPath("/pcc/b", bytes("3"));
        equal(next(seen), "CHILD_UPDATED /pcc/b");
        one.delete().forPath("/pcc/b");
        equal(next(seen), "CHILD_REMOVED /pcc/b");
        cache.close();
    }

    @SuppressWarnings("deprecation")
    private static void treeCache() throws Exception {
        one.create().creatingParentsIfNeeded().forPath("/tree/x/y", bytes("1"));
        org.apache.curator.framework.recipes.cache.TreeCache cache =
            new org.apache.curator.framework.recipes.cache.TreeCache(two, "/tree");
        cache.start();
        eventually("the tree is read", () -> cache.getCurrentData("/tree/x/y") != null);
        one.delete().forPath("/tree/x/y");
        eventually("the deletion is seen", () -> cache.getCurrentData("/tree/x/y") == null);
        cache.close();
    }

    private static void persistentNode() throws Exception {
        PersistentNode node = new PersistentNode(one, CreateMode.EPHEMERAL, false, "/pnode", bytes("x"));
        node.start();
        check(node.waitForInitialCreate(10, TimeUnit.SECONDS), "created");
        Stat before = two.checkExists().forPath("/pnode");
        two.delete().forPath("/pnode");
        eventually("created again", () -> {
            Stat now = two.checkExists().forPath("/pnode");
            return now != null && now.getCzxid() > before.getCzxid();
        });
        node.close();
        equal(two.checkExists().forPath("/pnode"), null);
    }

    private static void persistentWatcher() throws Exception {
        BlockingQueue<String> seen = new LinkedBlockingQueue<>();
        one.create().forPath("/pw");
        CountDownLatch set = new CountDownLatch(1);
        PersistentWatcher watcher = new PersistentWatcher(one, "/pw", true);
        watcher.getListenable().addListener((WatchedEvent e) -> {
            if (e.getPath() != null) {
                seen.add(e.getType() + " " + e.getPath());
            }
        });
        watcher.getResetListenable().addListener(set::countDown);
        watcher.start();
        check(set.await(10, TimeUnit.SECONDS), "watch set");
        two.create().forPath("/pw/a");
        two.setData().forPath("/pw/a", bytes("1"));
        two.delete().forPath("/pw/a");
        equal(next(seen), "NodeCreated /pw/a");
        equal(next(seen), "NodeDataChanged /pw/a");
        equal(next(seen), "NodeDeleted /pw/a");
        watcher.close();
    }

    private static void groupMember() throws Exception {
        GroupMember a = new GroupMember(one, "/group", "a", bytes("1"));
        GroupMember b = new GroupMember(two, "/group", "b", bytes("2"));
        a.start();
        b.start();
        eventually("both are members", () -> a.getCurrentMembers().keySet().equals(new HashSet<>(Arrays.asList("a", "b"))));
        b.close();
        eventually("one has left", () -> a.getCurrentMembers().keySet().equals(Collections.singleton("a")));
        a.close();
    }

    private static void queue() throws Exception {
        BlockingQueue<String> got = new LinkedBlockingQueue<>();
        QueueSerializer<String> strings = new QueueSerializer<String>() {
            @Override
            public byte[] serialize(String item) {
                return bytes(item);
            }

            @Override
            public String deserialize(byte[] b) {
                return new String(b, StandardCharsets.UTF_8);
            }
        };
        QueueConsumer<String> consumer = new QueueConsumer<String>() {
            @Override
            public void consumeMessage(String message) {
                got.add(message);
            }

            @Override
            public void stateChanged(CuratorFramework client, ConnectionState state) {
            }
        };
        DistributedQueue<String> in = QueueBuilder.builder(one, consumer, strings, "/queue").buildQueue();
        DistributedQueue<String> out = QueueBuilder.builder(two, null, strings, "/queue").buildQueue();
        in.start();
        out.start();
        for (int i = 0; i < 20; i++) {
            out.put("item " + i);
        }
        for (int i = 0; i < 20; i++) {
            equal(next(got), "item " + i);
        }
        out.close();
        in.close();
    }

    private static void barrier() throws Exception {
        DistributedBarrier a = new DistributedBarrier(one, "/barrier");
        DistributedBarrier b = new DistributedBarrier(two, "/barrier");
        a.setBarrier();
        check(!b.waitOnBarrier(200, TimeUnit.MILLISECONDS), "the barrier holds");
        ExecutorService pool = Executors.newSingleThreadExecutor();
        Future<Boolean> passed = pool.submit(() -> b.waitOnBarrier(10, TimeUnit.SECONDS));
        a.removeBarrier();
        equal(passed.get(), true);
        pool.shutdown();
    }

    private static void doubleBarrier() throws Exception {
        ExecutorService pool = Executors.newSingleThreadExecutor();
        Future<Boolean> other = pool.submit(() -> {
            DistributedDoubleBarrier b = new DistributedDoubleBarrier(two, "/double", 2);
            return b.enter(10, TimeUnit.SECONDS) && b.leave(10, TimeUnit.SECONDS);
        });
        DistributedDoubleBarrier a = new DistributedDoubleBarrier(one, "/double", 2);
        equal(a.enter(10, TimeUnit.SECONDS), true);
        equal(a.leave(10, TimeUnit.SECONDS), true);
        equal(other.get(20, TimeUnit.SECONDS), true);
        pool.shutdown();
    }

    private static void atomicLong() throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(2);
        List<Future<?>> all = new ArrayList<>();
        for (CuratorFramework c : Arrays.asList(one, two)) {
            DistributedAtomicLong n = new DistributedAtomicLong(c, "/long", new ExponentialBackoffRetry(5, 29));
            all.add(pool.submit(() -> {
                for (int i = 0; i < 25; i++) {
                    AtomicValue<Long> v = n.increment();
                    check(v.succeeded(), "increment");
                }
                return null;
            }));
        }
        for (Future<?> f : all) {
            f.get(60, TimeUnit.SECONDS);
        }
        pool.shutdown();
        equal(new DistributedAtomicLong(one, "/long", new ExponentialBackoffRetry(5, 5)).get().postValue(), 50L);
    }

    private static void sharedCount() throws Exception {
        SharedCount a = new SharedCount(one, "/count", 0);
        SharedCount b = new SharedCount(two, "/count", 0);
        a.start();
        b.start();
        a.setCount(7);
        eventually("the other sees it", () -> b.getCount() == 7);
        check(b.trySetCount(b.getVersionedValue(), 8), "set from the newest version");
        a.close();
        b.close();
    }

    private static void transaction() throws Exception {
        Collection<CuratorTransactionResult> results = one.transaction().forOperations(
            one.transactionOp().create().forPath("/tx", bytes("0")),
            one.transactionOp().create().withMode(CreateMode.EPHEMERAL).forPath("/tx2"),
            one.transactionOp().setData().forPath("/tx", bytes("1")),
            one.transactionOp().check().withVersion(1).forPath("/tx"),
            one.transactionOp().delete().forPath("/tx2"));
        equal(results.size(), 5);
        Set<String> before = new HashSet<>(one.getChildren().forPath("/"));
        try {
            one.transaction().forOperations(
                one.transactionOp().create().forPath("/tx3"),
                one.transactionOp().check().withVersion(5).forPath("/tx"));
            throw new AssertionError("not refused");
        } catch (KeeperException.BadVersionException e) {
            equal(new HashSet<>(one.getChildren().forPath("/")), before);
        }
    }

    private static void modes() throws Exception {
        String path = one.create().creatingParentContainersIfNeeded().withProtection()
            .withMode(CreateMode.EPHEMERAL_SEQUENTIAL).forPath("/modes/lock-", bytes("x"));
        check(path.matches("/modes/_c_[0-9a-f-]+-lock-0000000000"), path);
        equal(one.checkExists().forPath("/modes").getEphemeralOwner(), 0L); // a container does not show
        one.create().withTtl(500_000).withMode(CreateMode.PERSISTENT_WITH_TTL).forPath("/ttl");
        equal(one.checkExists().forPath("/ttl").getEphemeralOwner(), 0L);
        one.create().orSetData().forPath("/modes/set", bytes("1"));
        one.create().orSetData().forPath("/modes/set", bytes("2"));
        equal(new String(two.getData().forPath("/modes/set"), StandardCharsets.UTF_8), "2");
        two.delete().guaranteed().deletingChildrenIfNeeded().forPath("/modes");
        equal(one.checkExists().forPath("/modes"), null);
    }

    private static void background() throws Exception {
        BlockingQueue<Integer> codes = new LinkedBlockingQueue<>();
        one.create().forPath("/bg");
        for (int i = 0; i < 500; i++) {
            one.create().inBackground((c, e) -> codes.add(e.getResultCode())).forPath("/bg/" + i, bytes("" + i));
        }
        for (int i = 0; i < 500; i++) {
            equal(next(codes), 0);
        }
        one.sync().forPath("/bg");
        equal(two.getChildren().forPath("/bg").size(), 500);
    }

    private static void discovery() throws Exception {
        ServiceInstance<Void> greeter = ServiceInstance.<Void>builder()
            .name("greeter").id("1").address("127.0.0.1").port(20880).build();
        ServiceDiscovery<Void> provider = ServiceDiscoveryBuilder.builder(Void.class).client(one).basePath("/discovery").build();
        ServiceDiscovery<Void> consumer = ServiceDiscoveryBuilder.builder(Void.class).client(two).basePath("/discovery").build();
        provider.start();
        consumer.start();
        ServiceCache<Void> cache = consumer.serviceCacheBuilder().name("greeter").build();
        cache.start();
        provider.registerService(greeter);
        eventually("found", () -> cache.getInstances().size() == 1);
        equal(cache.getInstances().get(0).getPort(), 20880);
        provider.unregisterService(greeter);
        eventually("gone", () -> cache.getInstances().isEmpty());
        cache.close();
        consumer.close();
        provider.close();
    }
}
