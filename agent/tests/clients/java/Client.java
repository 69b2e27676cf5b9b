// Ecwid's Java client, the one below Spring Cloud Consul, beside an agent: register, look up, follow a change, KV, a lock.
import com.ecwid.consul.v1.ConsulClient;
import com.ecwid.consul.v1.OperationException;
import com.ecwid.consul.v1.QueryParams;
import com.ecwid.consul.v1.Response;
import com.ecwid.consul.v1.agent.model.NewService;
import com.ecwid.consul.v1.catalog.CatalogServicesRequest;
import com.ecwid.consul.v1.event.EventListRequest;
import com.ecwid.consul.v1.event.model.EventParams;
import com.ecwid.consul.v1.health.HealthServicesRequest;
import com.ecwid.consul.v1.health.model.HealthService;
import com.ecwid.consul.v1.kv.model.GetValue;
import com.ecwid.consul.v1.kv.model.PutParams;
import com.ecwid.consul.v1.session.model.NewSession;
import com.ecwid.consul.v1.session.model.Session;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;

public class Client {
    static ConsulClient client;

    public static void main(String[] arguments) throws Exception {
        client = new ConsulClient("127.0.0.1", Integer.parseInt(arguments[0]));
        must(client.getAgentSelf().getValue().getConfig().getDatacenter().equals("dc1"), "the agent says where it is");
        must(client.getStatusLeader().getValue().contains(":"), "there is a leader");
        services();
        values();
        locks();
        events();
        System.out.println("done");
        System.exit(0);
    }

    static void services() throws Exception {
        NewService service = new NewService();
        service.setId("web-1");
        service.setName("web");
        service.setAddress("192.0.2.1");
        service.setPort(80);
        service.setTags(List.of("blue"));
        NewService.Check check = new NewService.Check();
        check.setTtl("1h");
        service.setCheck(check);
        client.agentServiceRegister(service);
        client.agentCheckPass("service:web-1", "well");
        eventually("the service passes", () -> passing(QueryParams.DEFAULT).getValue().size() == 1);
        must(client.getAgentServices().getValue().get("web-1").getPort() == 80, "the agent has it");
        must(client.getCatalogServices(CatalogServicesRequest.newBuilder().build()).getValue().get("web").equals(List.of("blue")), "so has the catalog");

        Response<List<HealthService>> before = passing(QueryParams.DEFAULT);
        must(before.isConsulKnownLeader() && before.getConsulLastContact() == 0, "the answer says how new it is");
        must(before.getValue().get(0).getService().getAddress().equals("192.0.2.1"), "it is where it said");
        CompletableFuture<Response<List<HealthService>>> change =
            CompletableFuture.supplyAsync(() -> passing(new QueryParams(20, before.getConsulIndex())));
        Thread.sleep(300);
        must(!change.isDone(), "nothing has changed yet");
        client.agentCheckFail("service:web-1", "said so");
        Response<List<HealthService>> after = change.get(20, TimeUnit.SECONDS);
        must(after.getConsulIndex() > before.getConsulIndex() && after.getValue().isEmpty(), "the change is told");
        try {
            client.agentCheckPass("nothing");
            must(false, "a check that is not there");
        } catch (OperationException error) {
            must(error.getStatusCode() == 404 && error.getStatusContent().contains("Unknown check"), "Spring registers again on it");
        }
        client.agentServiceDeregister("web-1");
        eventually("the service is gone", () -> !client.getCatalogServices(CatalogServicesRequest.newBuilder().build()).getValue().containsKey("web"));
    }

    static Response<List<HealthService>> passing(QueryParams options) {
        HealthServicesRequest request = HealthServicesRequest.newBuilder().setPassing(true).setQueryParams(options).build();
        return client.getHealthServices("web", request);
    }

    static void values() throws Exception {
        must(client.getKVValues("config/web/").getValue() == null, "there is no configuration yet");
        must(client.setKVValue("config/web/colour", "blue").getValue(), "a key is put");
        Response<List<GetValue>> before = client.getKVValues("config/web/", new QueryParams("dc1"));
        must(before.getValue().get(0).getDecodedValue().equals("blue"), "and read");
        CompletableFuture<Response<List<GetValue>>> change = CompletableFuture.supplyAsync(
            () -> client.getKVValues("config/web/", new QueryParams(20, before.getConsulIndex())));
        PutParams once = new PutParams();
        once.setCas(before.getValue().get(0).getModifyIndex());
        must(client.setKVValue("config/web/colour", "grün", once).getValue(), "it is as it was seen");
        must(!client.setKVValue("config/web/colour", "red", once).getValue(), "and then no more");
        must(change.get(20, TimeUnit.SECONDS).getValue().get(0).getDecodedValue().equals("grün"), "the change is told");
        must(client.getKVKeysOnly("config/").getValue().equals(List.of("config/web/colour")), "keys alone");
        client.deleteKVValues("config/");
        must(client.getKVValue("config/web/colour").getValue() == null, "all of it is gone");
    }

    static void locks() {
        String first = session("first"), second = session("second");
        must(acquire(first) && !acquire(second), "one holds the lock");
        must(client.getKVValue("java/lock").getValue().getSession().equals(first), "the key says who");
        must(client.renewSession(first, QueryParams.DEFAULT).getValue().getId().equals(first), "it is renewed");
        client.sessionDestroy(first, QueryParams.DEFAULT);
        eventually("the other one gets it", () -> acquire(second));
        Session info = client.getSessionInfo(second, QueryParams.DEFAULT).getValue();
        must(info.getName().equals("second") && info.getTtl().equals("10s"), "the session is as it was made");
        PutParams release = new PutParams();
        release.setReleaseSession(second);
        must(client.setKVValue("java/lock", "free", release).getValue(), "it is released");
        must(client.getKVValue("java/lock").getValue().getSession() == null, "nobody holds it");
        client.sessionDestroy(second, QueryParams.DEFAULT);
    }

    static String session(String name) {
        NewSession session = new NewSession();
        session.setName(name);
        session.setTtl("10s");
        session.setBehavior(Session.Behavior.RELEASE);
        session.setLockDelay(1);
        return client.sessionCreate(session, QueryParams.DEFAULT).getValue();
    }

    static boolean acquire(String session) {
        PutParams acquire = new PutParams();
        acquire.setAcquireSession(session);
        return client.setKVValue("java/lock", session, acquire).getValue();
    }

    static void events() {
        client.eventFire("refresh", "all", new EventParams(), QueryParams.DEFAULT);
        eventually("Spring's bus hears the event", () ->
            client.eventList(EventListRequest.newBuilder().build()).getValue().stream().anyMatch(event -> event.getName().equals("refresh")));
    }

    static void must(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    static void eventually(String what, BooleanSupplier holds) {
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(20);
        while (!holds.getAsBoolean()) {
            must(System.nanoTime() < end, what);
            try {
                Thread.sleep(50);
            } catch (InterruptedException error) {
                throw new AssertionError(error);
            }
        }
    }
}
