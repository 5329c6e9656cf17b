package paddock.interop;

import org.apache.dubbo.config.ApplicationConfig;
import org.apache.dubbo.config.ProtocolConfig;
import org.apache.dubbo.config.ReferenceConfig;
import org.apache.dubbo.config.RegistryConfig;
import org.apache.dubbo.config.ServiceConfig;
import org.apache.dubbo.config.bootstrap.DubboBootstrap;
import org.apache.dubbo.rpc.RpcException;
import org.demo.Greeter;

/**
 * A Dubbo provider or consumer in Java.
 *
 * <pre>
 * provider REGISTRY PORT   registers org.demo.Greeter, prints READY, and ends with its input
 * consumer REGISTRY NAME   finds it, calls sayHello(NAME), and prints SAID and the answer
 * </pre>
 *
 * REGISTRY is the host:port of a ZooKeeper server.
 */
public final class DubboProgram {

    private DubboProgram() {
    }

    public static void main(String[] args) throws Exception {
        ApplicationConfig app = new ApplicationConfig("java-" + args[0]);
        app.setQosEnable(false);
        RegistryConfig registry = new RegistryConfig("zookeeper://" + args[1]);
        registry.setTimeout(20_000);
        DubboBootstrap dubbo = DubboBootstrap.getInstance().application(app).registry(registry);
        if (args[0].equals("provider")) {
            provide(dubbo, Integer.parseInt(args[2]));
        } else {
            consume(dubbo, args[2]);
        }
        dubbo.stop();
        System.exit(0);
    }

    private static void provide(DubboBootstrap dubbo, int port) throws Exception {
        ProtocolConfig protocol = new ProtocolConfig("dubbo", port);
        ServiceConfig<Greeter> service = new ServiceConfig<>();
        service.setInterface(Greeter.class);
        service.setVersion("1.0.0");
        service.setRef(name -> "Hello " + name + ", this is Dubbo for Java");
        dubbo.protocol(protocol).service(service).start();
        System.out.println("READY");
        while (System.in.read() >= 0) {
            // the end of the input is the end of the provider
        }
    }

    private static void consume(DubboBootstrap dubbo, String name) throws Exception {
        ReferenceConfig<Greeter> reference = new ReferenceConfig<>();
        reference.setInterface(Greeter.class);
        reference.setVersion("1.0.0");
        reference.setProtocol("dubbo");
        reference.setCheck(false);
        dubbo.reference(reference).start();
        Greeter greeter = reference.get();
        long deadline = System.nanoTime() + 30_000_000_000L;
        while (true) {
            try {
                System.out.println("SAID " + greeter.sayHello(name));
                return;
            } catch (RpcException e) {
                if (System.nanoTime() > deadline) {
                    throw e;
                }
                Thread.sleep(100);
            }
        }
    }
}
