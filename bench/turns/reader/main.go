// Dispatches many turns at once over one HTTP/2 connection each 100 streams and
// prints, as JSON, how late their deltas came.
//
// The packages below polyglot/gen are generated when the benchmark runs.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"

	broker "polyglot/gen/sessionbroker/v1"
	"polyglot/gen/sessionbroker/v1/sessionbrokerv1connect"
)

type report struct {
	Turns     int     `json:"turns"`
	Completed int     `json:"completed"`
	Deltas    int     `json:"deltas"`
	Lost      int     `json:"lost"`
	P50Ms     float64 `json:"p50Ms"`
	P99Ms     float64 `json:"p99Ms"`
	MaxMs     float64 `json:"maxMs"`
	LastMs    float64 `json:"lastMs"`
}

func number(name string) int {
	value, err := strconv.Atoi(os.Getenv(name))
	if err != nil {
		log.Fatalf("%s: %v", name, err)
	}
	return value
}

// One HTTP/2 connection without TLS.
func newClient() sessionbrokerv1connect.SessionBrokerClient {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols}
	return sessionbrokerv1connect.NewSessionBrokerClient(
		&http.Client{Transport: transport}, os.Getenv("BROKER_URL"), connect.WithGRPC())
}

func main() {
	turns, words := number("TURNS"), number("WORDS")
	text := strings.TrimSpace(strings.Repeat("word ", words))
	token := "Bearer " + os.Getenv("BROKER_TOKEN")
	var mutex sync.Mutex
	var lateMs []float64
	result := report{Turns: turns}
	begun := time.Now()
	var all sync.WaitGroup
	var client sessionbrokerv1connect.SessionBrokerClient
	for i := 0; i < turns; i++ {
		if i%100 == 0 {
			client = newClient()
		}
		all.Add(1)
		go func(i int, client sessionbrokerv1connect.SessionBrokerClient) {
			defer all.Done()
			request := connect.NewRequest(&broker.DispatchRequest{
				Target: &broker.DispatchRequest_Key{Key: &broker.SessionKey{
					Scope: "bench", ExternalId: fmt.Sprintf("stream-%d", i), Provider: "paced"}},
				Input: []*broker.InputPart{{Part: &broker.InputPart_Text{Text: text}}},
			})
			request.Header().Set("Authorization", token)
			stream, err := client.Dispatch(context.Background(), request)
			if err != nil {
				log.Print(err)
				return
			}
			var late []float64
			next, lost, completed := uint32(1), 0, false
			for stream.Receive() {
				event := stream.Msg().GetEvent()
				if event.GetSequence() == 0 {
					continue
				}
				first := event.GetSequence()
				if event.GetFirstSequence() > 0 {
					first = event.GetFirstSequence()
				}
				if first != next {
					lost += int(first) - int(next)
				}
				next = event.GetSequence() + 1
				if event.GetTextDelta() != nil {
					late = append(late, float64(time.Since(event.GetTime().AsTime()).Microseconds())/1000)
				}
				completed = completed || event.GetCompleted() != nil
			}
			if err := stream.Err(); err != nil {
				log.Print(err)
			}
			mutex.Lock()
			defer mutex.Unlock()
			lateMs = append(lateMs, late...)
			result.Lost += lost
			if completed {
				result.Completed++
			}
		}(i, client)
		time.Sleep(2 * time.Millisecond)
	}
	all.Wait()
	result.LastMs = float64(time.Since(begun).Milliseconds())
	result.Deltas = len(lateMs)
	if len(lateMs) > 0 {
		sort.Float64s(lateMs)
		result.P50Ms = lateMs[len(lateMs)/2]
		result.P99Ms = lateMs[len(lateMs)*99/100]
		result.MaxMs = lateMs[len(lateMs)-1]
	}
	encoded, _ := json.Marshal(result)
	fmt.Println(string(encoded))
}
