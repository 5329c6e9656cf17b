package paddock.interop;

import static org.junit.platform.engine.discovery.DiscoverySelectors.selectClass;
import static org.junit.platform.engine.discovery.DiscoverySelectors.selectMethod;

import java.io.PrintStream;
import java.util.HashSet;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.platform.engine.FilterResult;
import org.junit.platform.engine.TestExecutionResult;
import org.junit.platform.engine.support.descriptor.MethodSource;
import org.junit.platform.launcher.LauncherDiscoveryRequest;
import org.junit.platform.launcher.PostDiscoveryFilter;
import org.junit.platform.launcher.TestExecutionListener;
import org.junit.platform.launcher.TestIdentifier;
import org.junit.platform.launcher.core.LauncherDiscoveryRequestBuilder;
import org.junit.platform.launcher.core.LauncherFactory;

/**
 * Runs published JUnit test classes, one after the other, and writes a line per test:
 * class, test, PASSED|FAILED|SKIPPED, milliseconds, reason, separated by tabs.
 *
 * <p>Arguments: the file for the lines, then CLASS or CLASS#METHOD each, and -METHOD for a test that
 * is left out; an argument threadid=N is for Apache's PortAssignment, which reads it from the
 * command line.
 */
public final class RunTests {

    private static final Pattern INVOCATION = Pattern.compile("test-template-invocation:#(\\d+)");

    private RunTests() {
    }

    public static void main(String[] args) throws Exception {
        if (ProcessCnxnFactory.class.getName().equals(System.getProperty("zookeeper.serverCnxnFactory"))) {
            LaunchedBeans.install();
        }
        try (PrintStream out = new PrintStream(args[0], "UTF-8")) {
            Set<String> leftOut = new HashSet<>();
            for (String arg : args) {
                if (arg.startsWith("-")) {
                    leftOut.add(arg.substring(1));
                }
            }
            for (int i = 1; i < args.length; i++) {
                if (!args[i].startsWith("threadid=") && !args[i].startsWith("-")) {
                    run(args[i], leftOut, out);
                }
            }
        }
        System.exit(0); // Apache's tests leave threads behind
    }

    private static void run(String what, Set<String> leftOut, PrintStream out) throws Exception {
        // Properties are a test's way to configure its server: one class must not see another's.
        Properties before = (Properties) System.getProperties().clone();
        LauncherDiscoveryRequest request = LauncherDiscoveryRequestBuilder.request()
            .selectors(what.contains("#") ? selectMethod(what) : selectClass(Class.forName(what)))
            .filters((PostDiscoveryFilter) test -> FilterResult.includedIf(
                !(test.getSource().orElse(null) instanceof MethodSource)
                    || !leftOut.contains(((MethodSource) test.getSource().get()).getMethodName())))
            .configurationParameter("junit.jupiter.execution.timeout.default", "150 s")
            .build();
        String className = what.replaceAll("#.*", "");
        LauncherFactory.create().execute(request, new Report(className, out));
        System.setProperties(before);
        out.flush();
    }

    private static final class Report implements TestExecutionListener {
        private final String className;
        private final PrintStream out;
        private final Map<String, Long> started = new ConcurrentHashMap<>();

        Report(String className, PrintStream out) {
            this.className = className;
            this.out = out;
        }

        @Override
        public void executionStarted(TestIdentifier id) {
            started.put(id.getUniqueId(), System.nanoTime());
            if (id.isTest()) {
                System.out.println("RUN " + className + " " + name(id));
            }
        }

        @Override
        public void executionSkipped(TestIdentifier id, String reason) {
            line(id, "SKIPPED", 0, reason);
        }

        @Override
        public void executionFinished(TestIdentifier id, TestExecutionResult result) {
            long ms = (System.nanoTime() - started.getOrDefault(id.getUniqueId(), System.nanoTime())) / 1_000_000;
            if (result.getStatus() == TestExecutionResult.Status.SUCCESSFUL) {
                if (id.isTest()) {
                    line(id, "PASSED", ms, "");
                }
                return;
            }
            Throwable why = result.getThrowable().orElse(null);
            if (why != null) {
                System.out.println("FAILED " + className + " " + name(id));
                why.printStackTrace(System.out);
            }
            boolean skipped = result.getStatus() == TestExecutionResult.Status.ABORTED;
            line(id, skipped ? "SKIPPED" : "FAILED", ms, String.valueOf(why));
        }

        private void line(TestIdentifier id, String status, long ms, String why) {
            String reason = why.replaceAll("[\\t\\r\\n]+", " ");
            out.println(className + "\t" + name(id) + "\t" + status + "\t" + ms + "\t"
                + reason.substring(0, Math.min(reason.length(), 300)));
            out.flush();
        }

        private static String name(TestIdentifier id) {
            String method = id.getSource().filter(MethodSource.class::isInstance)
                .map(s -> ((MethodSource) s).getMethodName()).orElse("-");
            Matcher m = INVOCATION.matcher(id.getUniqueId());
            return m.find() ? method + "[" + m.group(1) + "]" : method;
        }
    }
}
