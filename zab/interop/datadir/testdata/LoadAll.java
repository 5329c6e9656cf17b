import java.io.BufferedReader;
import java.io.File;
import java.io.InputStreamReader;
import org.apache.zookeeper.server.ZKDatabase;
import org.apache.zookeeper.server.persistence.FileTxnSnapLog;

/**
 * Loads data directories as a server does at its start. Each line of the input is a
 * directory with data and logs in it; each line of the output is its last zxid and
 * the digest of its tree, or the word error and why.
 */
public final class LoadAll {

    public static void main(String[] args) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, "UTF-8"));
        for (String dir = in.readLine(); dir != null; dir = in.readLine()) {
            String result;
            try {
                ZKDatabase db = new ZKDatabase(new FileTxnSnapLog(new File(dir, "logs"), new File(dir, "data")));
                long zxid = db.loadDataBase();
                result = "ok " + zxid + " " + db.getDataTree().getTreeDigest();
                db.close();
            } catch (Exception e) {
                result = "error " + e.toString().replace('\n', ' ');
            }
            System.out.println("result " + result);
        }
    }
}
