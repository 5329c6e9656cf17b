package paddock.interop;

import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Proxy;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import javax.management.MBeanServer;
import javax.management.ObjectName;
import org.apache.zookeeper.jmx.MBeanRegistry;

/**
 * What Apache's test base asks JMX for: the names of the server, its tree and its connections. A
 * launched server has no JMX, so a query for names asks its word "cons" and answers with the names
 * an Apache server would have registered. Names only; there are no beans behind them.
 */
final class LaunchedBeans {

    private static final Pattern SID = Pattern.compile("sid=(0x[0-9a-f]+)");
    private static final Set<ProcessCnxnFactory> LIVE = ConcurrentHashMap.newKeySet();

    private LaunchedBeans() {
    }

    /** Makes ZooKeeper's registry answer from the launched servers. To be called before any test. */
    static void install() {
        MBeanServer platform = MBeanRegistry.getInstance().getPlatformMBeanServer();
        MBeanServer proxy = (MBeanServer) Proxy.newProxyInstance(
            LaunchedBeans.class.getClassLoader(), new Class<?>[] {MBeanServer.class}, (self, method, args) -> {
                Object result;
                try {
                    result = method.invoke(platform, args);
                } catch (InvocationTargetException e) {
                    throw e.getCause();
                }
                if (!method.getName().equals("queryNames")) {
                    return result;
                }
                Set<ObjectName> names = new HashSet<>();
                for (Object name : (Set<?>) result) {
                    names.add((ObjectName) name);
                }
                for (ProcessCnxnFactory server : LIVE) {
                    names.addAll(names(server));
                }
                return names;
            });
        MBeanRegistry.setInstance(new MBeanRegistry() {
            @Override
            public MBeanServer getPlatformMBeanServer() {
                return proxy;
            }
        });
    }

    static void add(ProcessCnxnFactory server) {
        LIVE.add(server);
    }

    static void remove(ProcessCnxnFactory server) {
        LIVE.remove(server);
    }

    /** The ids of the sessions that have a connection, as they stand in "cons". */
    static List<String> sessions(ProcessCnxnFactory server) {
        List<String> ids = new ArrayList<>();
        String cons = server.ask("cons");
        if (cons != null) {
            Matcher m = SID.matcher(cons);
            while (m.find()) {
                ids.add(m.group(1));
            }
        }
        return ids;
    }

    private static Set<ObjectName> names(ProcessCnxnFactory server) throws Exception {
        String parent = MBeanRegistry.DOMAIN + ":name0=StandaloneServer_port" + server.getLocalPort();
        Set<ObjectName> names = new HashSet<>();
        names.add(new ObjectName(parent));
        names.add(new ObjectName(parent + ",name1=InMemoryDataTree"));
        for (String sid : sessions(server)) {
            names.add(new ObjectName(parent + ",name1=Connections,name2=127.0.0.1,name3=" + sid));
        }
        return names;
    }
}
