// What analytics-go is asked to send; tests/sdks/expected.py has the same.
package main

import (
	"os"
	"time"

	"github.com/segmentio/analytics-go/v3"
)

const user = "ada-é"

func main() {
	client, err := analytics.NewWithConfig(os.Getenv("PERIGEE_KEY"), analytics.Config{
		Endpoint:  os.Getenv("PERIGEE_HOST"),
		BatchSize: 10,
		Interval:  200 * time.Millisecond,
	})
	if err != nil {
		panic(err)
	}
	order := analytics.Properties{
		"order_id": "o-1", "total": 19.9, "currency": "EUR", "quantity": 2, "note": "zażółć 🎈",
		"products": []map[string]string{{"sku": "a"}},
	}
	traits := analytics.Traits{"email": "ada@x.test", "plan": "pro", "nested": map[string]int{"n": 1}}
	messages := []analytics.Message{
		analytics.Identify{UserId: user, AnonymousId: "device-1", Traits: traits},
		analytics.Track{UserId: user, Event: "Order Completed", Properties: order},
		analytics.Page{UserId: user, Name: "Home", Properties: analytics.Properties{"path": "/"}},
		analytics.Screen{UserId: user, Name: "Start"},
		analytics.Group{UserId: user, GroupId: "acme", Traits: analytics.Traits{"name": "Acme"}},
		analytics.Alias{UserId: user, PreviousId: "old-ada"},
	}
	for n := 0; n < 40; n++ {
		messages = append(messages, analytics.Track{UserId: user, Event: "Ping", Properties: analytics.Properties{"n": n}})
	}
	for _, message := range messages {
		if err := client.Enqueue(message); err != nil {
			panic(err)
		}
	}
	time.Sleep(15 * time.Second) // what is tried again when the client closes is dropped
	if err := client.Close(); err != nil {
		panic(err)
	}
}
