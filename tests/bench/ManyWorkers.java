import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import org.apache.spark.SecurityManager;
import org.apache.spark.SparkConf;
import org.apache.spark.deploy.DeployMessages.Heartbeat;
import org.apache.spark.deploy.DeployMessages.RegisterWorker;
import org.apache.spark.resource.ResourceInformation;
import org.apache.spark.rpc.RpcAddress;
import org.apache.spark.rpc.RpcEndpointAddress;
import org.apache.spark.rpc.RpcEndpointRef;
import org.apache.spark.rpc.RpcEnv;
import org.apache.spark.rpc.netty.NettyRpcEndpointRef;
import org.apache.spark.rpc.netty.NettyRpcEnv;

/**
 * Workers that a real master takes for real: they register over Spark's RPC and send heartbeats, and run nothing.
 *
 * <p>java -cp "$SPARK_HOME/jars/*" ManyWorkers.java MASTER PORT, with the workers' addresses on standard input, one per line.
 */
class ManyWorkers {
  public static void main(String[] args) throws Exception {
    SparkConf conf = new SparkConf(false).set("spark.rpc.netty.dispatcher.numThreads", "2");
    SecurityManager security =
        new SecurityManager(conf, scala.Option.empty(), org.apache.spark.internal.config.package$.MODULE$.AUTH_SECRET_FILE());
    RpcEnv env = RpcEnv.create("workers", "localhost", 0, conf, security, true);
    RpcAddress address = new RpcAddress(args[0], Integer.parseInt(args[1]));
    RpcEndpointRef master = env.setupEndpointRef(address, "Master");
    List<Heartbeat> heartbeats = new CopyOnWriteArrayList<>();
    var reader = new BufferedReader(new InputStreamReader(System.in));
    Thread registering = new Thread(() -> reader.lines().forEach(host -> {
      String id = "worker-20260101000000-" + host + "-7078";
      // A master knows a worker by its address, and answers over the connection of the registration.
      RpcEndpointRef self = new NettyRpcEndpointRef(conf, new RpcEndpointAddress(host, 7078, "Worker"), (NettyRpcEnv) env);
      String ui = "http://spark-" + host.replace('.', '-') + ".fleet.k8s:8081";
      master.send(new RegisterWorker(id, host, 7078, self, 1, 1116, ui, address,
          scala.collection.immutable.Map$.MODULE$.<String, ResourceInformation>empty()));
      heartbeats.add(new Heartbeat(id, self));
    }));
    registering.start();
    while (true) {
      Thread.sleep(10_000);
      heartbeats.forEach(master::send);
    }
  }
}
