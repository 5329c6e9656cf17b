package paddock.interop;

import java.util.LinkedHashMap;
import java.util.Map;

/** Named cases, each printed as "PASS name" or "FAIL name: reason"; exit status 1 if one failed. */
final class Cases {

    interface Case {
        void run() throws Exception;
    }

    private final Map<String, Case> cases = new LinkedHashMap<>();

    void add(String name, Case body) {
        cases.put(name, body);
    }

    /** Runs all cases and ends the process: client libraries leave threads behind. */
    void runAndExit() {
        boolean failed = false;
        for (Map.Entry<String, Case> c : cases.entrySet()) {
            try {
                c.getValue().run();
                System.out.println("PASS " + c.getKey());
            } catch (Throwable e) {
                failed = true;
                e.printStackTrace();
                System.out.println("FAIL " + c.getKey() + ": " + e);
            }
        }
        System.exit(failed ? 1 : 0);
    }

    static void equal(Object got, Object want) {
        if (got == null ? want != null : !got.equals(want)) {
            throw new AssertionError("got " + got + ", want " + want);
        }
    }

    static void check(boolean ok, String what) {
        if (!ok) {
            throw new AssertionError(what);
        }
    }
}
