// Command dubbogo is a Dubbo provider or consumer in Go, for the interop suite.
//
//	dubbogo provider REGISTRY PORT   registers org.demo.Greeter, prints READY, and ends with its input
//	dubbogo consumer REGISTRY NAME   finds it, calls sayHello(NAME), and prints SAID and the answer
//
// REGISTRY is the host:port of a ZooKeeper server.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	_ "dubbo.apache.org/dubbo-go/v3/cluster/cluster/failover"
	_ "dubbo.apache.org/dubbo-go/v3/cluster/loadbalance/random"
	"dubbo.apache.org/dubbo-go/v3/common/constant"
	"dubbo.apache.org/dubbo-go/v3/config"
	_ "dubbo.apache.org/dubbo-go/v3/filter/filter_impl"
	_ "dubbo.apache.org/dubbo-go/v3/metadata/service/local"
	_ "dubbo.apache.org/dubbo-go/v3/protocol/dubbo"
	_ "dubbo.apache.org/dubbo-go/v3/proxy/proxy_factory"
	_ "dubbo.apache.org/dubbo-go/v3/registry/directory"
	_ "dubbo.apache.org/dubbo-go/v3/registry/protocol"
	_ "dubbo.apache.org/dubbo-go/v3/registry/zookeeper"
)

const (
	iface   = "org.demo.Greeter"
	version = "1.0.0"
)

// greeter is the consumer's side: dubbo-go fills the function in.
type greeter struct {
	SayHello func(ctx context.Context, name string) (string, error) `dubbo:"sayHello"`
}

func (*greeter) Reference() string { return "Greeter" }

// GreeterProvider is the service. dubbo-go refuses a type that is not exported.
type GreeterProvider struct{}

// Reference is the name that the configuration knows the service by.
func (*GreeterProvider) Reference() string { return "GreeterProvider" }

// MethodMapper gives the method its Java name.
func (*GreeterProvider) MethodMapper() map[string]string {
	return map[string]string{"SayHello": "sayHello"}
}

// SayHello greets.
func (*GreeterProvider) SayHello(_ context.Context, name string) (string, error) {
	return "Hello " + name + ", this is dubbo-go", nil
}

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: dubbogo provider|consumer REGISTRY PORT|NAME")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(role, registry, arg string) error {
	root := config.NewRootConfigBuilder().
		SetApplication(config.NewApplicationConfigBuilder().SetName("dubbogo-"+role).Build()).
		AddRegistry("zk", config.NewRegistryConfigBuilder().SetProtocol("zookeeper").SetAddress(registry).
			SetRegistryType("interface").SetTimeout("10s").Build())
	if role == "provider" {
		config.SetProviderService(&GreeterProvider{})
		root.AddProtocol("dubbo", config.NewProtocolConfigBuilder().SetName("dubbo").SetIp("127.0.0.1").SetPort(arg).Build()).
			SetProvider(config.NewProviderConfigBuilder().AddService("GreeterProvider",
				config.NewServiceConfigBuilder().SetInterface(iface).SetVersion(version).SetProtocolIDs("dubbo").Build()).Build())
		if err := config.Load(config.WithRootConfig(root.Build())); err != nil {
			return err
		}
		fmt.Println("READY")
		if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
			return err
		}
		config.BeforeShutdown() // takes the registration back
		return nil
	}
	client := &greeter{}
	config.SetConsumerService(client)
	root.SetConsumer(config.NewConsumerConfigBuilder().SetCheck(false).AddReference("Greeter",
		config.NewReferenceConfigBuilder().SetInterface(iface).SetVersion(version).
			SetProtocol(constant.Dubbo).Build()).Build())
	if err := config.Load(config.WithRootConfig(root.Build())); err != nil {
		return err
	}
	deadline := time.Now().Add(30 * time.Second)
	for {
		answer, err := client.SayHello(context.Background(), arg)
		if err == nil {
			fmt.Println("SAID", answer)
			return nil
		}
		if time.Now().After(deadline) {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
}
