import com.segment.analytics.Analytics;
import com.segment.analytics.messages.AliasMessage;
import com.segment.analytics.messages.GroupMessage;
import com.segment.analytics.messages.IdentifyMessage;
import com.segment.analytics.messages.PageMessage;
import com.segment.analytics.messages.ScreenMessage;
import com.segment.analytics.messages.TrackMessage;
import java.util.List;
import java.util.Map;

/** What analytics-java is asked to send; tests/sdks/expected.py has the same. */
public final class Calls {
  private static final String USER = "ada-é";

  public static void main(String[] arguments) throws InterruptedException {
    Analytics analytics =
        Analytics.builder(System.getenv("PERIGEE_KEY"))
            .endpoint(System.getenv("PERIGEE_HOST"))
            .flushQueueSize(10)
            .retries(5)
            .build();
    Map<String, Object> order =
        Map.of(
            "order_id", "o-1", "total", 19.9, "currency", "EUR", "quantity", 2, "note", "zażółć 🎈",
            "products", List.of(Map.of("sku", "a")));
    Map<String, Object> traits = Map.of("email", "ada@x.test", "plan", "pro", "nested", Map.of("n", 1));
    analytics.enqueue(IdentifyMessage.builder().userId(USER).anonymousId("device-1").traits(traits));
    analytics.enqueue(TrackMessage.builder("Order Completed").userId(USER).properties(order));
    analytics.enqueue(PageMessage.builder("Home").userId(USER).properties(Map.of("path", "/")));
    analytics.enqueue(ScreenMessage.builder("Start").userId(USER));
    analytics.enqueue(GroupMessage.builder("acme").userId(USER).traits(Map.of("name", "Acme")));
    analytics.enqueue(AliasMessage.builder("old-ada").userId(USER));
    for (int n = 0; n < 40; n++) {
      analytics.enqueue(TrackMessage.builder("Ping").userId(USER).properties(Map.of("n", n)));
    }
    analytics.flush();
    Thread.sleep(110_000); // a retry comes after 15 to 30 s, and holds up what is behind it
    analytics.shutdown();
    System.exit(0);
  }
}
