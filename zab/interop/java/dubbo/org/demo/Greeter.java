package org.demo;

/** The service that the Dubbo programs of the interop suite offer and use. */
public interface Greeter {
    String sayHello(String name);
}
