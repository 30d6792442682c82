// Takes the journey of ../journey.ts with connect-go and prints its report as JSON.
//
// The packages below polyglot/gen are generated when the test runs.
package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"

	broker "polyglot/gen/sessionbroker/v1"
	"polyglot/gen/sessionbroker/v1/sessionbrokerv1connect"
)

type reservation struct {
	Outcome    string `json:"outcome"`
	SessionID  string `json:"sessionId"`
	ExternalID string `json:"externalId"`
}

type selection struct {
	SessionID  string `json:"sessionId"`
	ExternalID string `json:"externalId"`
}

type turn struct {
	Events  []string `json:"events"`
	Deltas  string   `json:"deltas"`
	Text    string   `json:"text"`
	Resumed bool     `json:"resumed"`
}

type detail struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

type failure struct {
	Code    string   `json:"code"`
	Message string   `json:"message"`
	Details []detail `json:"details"`
}

type report struct {
	Reserved []reservation      `json:"reserved"`
	Resolved selection          `json:"resolved"`
	Turns    []turn             `json:"turns"`
	Failures map[string]failure `json:"failures"`
}

var (
	token      = os.Getenv("BROKER_TOKEN")
	externalID = os.Getenv("BROKER_EXTERNAL_ID")
)

// A client and the HTTP version that its protocol is used with.
func newClient() (sessionbrokerv1connect.SessionBrokerClient, error) {
	var options []connect.ClientOption
	version2 := false
	switch protocol := os.Getenv("BROKER_PROTOCOL"); protocol {
	case "connect":
	case "connect-json":
		options = append(options, connect.WithProtoJSON())
	case "connect-h2":
		version2 = true
	case "grpc":
		version2 = true
		options = append(options, connect.WithGRPC())
	case "grpc-web":
		options = append(options, connect.WithGRPCWeb())
	default:
		return nil, fmt.Errorf("BROKER_PROTOCOL: unknown: %q", protocol)
	}
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetHTTP1(!version2)
	transport.Protocols.SetUnencryptedHTTP2(version2)
	client := &http.Client{Transport: transport}
	return sessionbrokerv1connect.NewSessionBrokerClient(client, os.Getenv("BROKER_URL"), options...), nil
}

func bearing[T any](token string, message *T) *connect.Request[T] {
	request := connect.NewRequest(message)
	request.Header().Set("Authorization", "Bearer "+token)
	return request
}

func key(scope, provider string) *broker.SessionKey {
	return &broker.SessionKey{Scope: scope, ExternalId: externalID, Provider: provider}
}

func goodKey() *broker.SessionKey {
	return key("polyglot", "echo")
}

func textInput(text string) []*broker.InputPart {
	return []*broker.InputPart{{Part: &broker.InputPart_Text{Text: text}}}
}

// Gives the events of a turn to each, one by one.
func dispatch(
	ctx context.Context,
	client sessionbrokerv1connect.SessionBrokerClient,
	request *broker.DispatchRequest,
	each func(*broker.TurnEvent),
) error {
	stream, err := client.Dispatch(ctx, bearing(token, request))
	if err != nil {
		return err
	}
	defer stream.Close()
	for stream.Receive() {
		each(stream.Msg().GetEvent())
	}
	return stream.Err()
}

func takeTurn(ctx context.Context, client sessionbrokerv1connect.SessionBrokerClient, text string) (turn, error) {
	var result turn
	request := &broker.DispatchRequest{
		Target: &broker.DispatchRequest_Key{Key: goodKey()},
		Input:  textInput(text),
	}
	err := dispatch(ctx, client, request, func(event *broker.TurnEvent) {
		message := event.ProtoReflect()
		field := message.WhichOneof(message.Descriptor().Oneofs().ByName("event"))
		result.Events = append(result.Events, string(field.Name()))
		result.Deltas += event.GetTextDelta().GetText()
		result.Text += event.GetCompleted().GetText()
		result.Resumed = result.Resumed || event.GetStarted().GetResumed()
	})
	return result, err
}

func describe(err error) failure {
	var wire *connect.Error
	if err == nil {
		return failure{Code: "ok", Details: []detail{}}
	}
	if !errors.As(err, &wire) {
		return failure{Code: "none", Message: err.Error(), Details: []detail{}}
	}
	result := failure{Code: wire.Code().String(), Message: wire.Message(), Details: []detail{}}
	for _, each := range wire.Details() {
		value := base64.StdEncoding.EncodeToString(each.Bytes())
		result.Details = append(result.Details, detail{Type: each.Type(), Value: value})
	}
	return result
}

func takeFailures(
	ctx context.Context,
	client sessionbrokerv1connect.SessionBrokerClient,
	deadline time.Duration,
) map[string]failure {
	ignore := func(*broker.TurnEvent) {}
	_, invalid := client.Reserve(ctx, bearing(token, &broker.ReserveRequest{Key: key("NOT VALID", "echo")}))
	_, unauthenticated := client.Reserve(ctx, bearing("wrong", &broker.ReserveRequest{Key: goodKey()}))
	missing := dispatch(ctx, client, &broker.DispatchRequest{
		Target: &broker.DispatchRequest_SessionId{SessionId: externalID},
		Input:  textInput("hello"),
	}, ignore)
	short, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	expired := dispatch(short, client, &broker.DispatchRequest{
		Target: &broker.DispatchRequest_Key{Key: key("polyglot", "slow")},
		Input:  textInput("hello"),
	}, ignore)
	return map[string]failure{
		"invalid":         describe(invalid),
		"unauthenticated": describe(unauthenticated),
		"missing":         describe(missing),
		"expired":         describe(expired),
	}
}

func takeJourney(ctx context.Context, client sessionbrokerv1connect.SessionBrokerClient) (*report, error) {
	var result report
	for range 2 {
		answer, err := client.Reserve(ctx, bearing(token, &broker.ReserveRequest{Key: goodKey()}))
		if err != nil {
			return nil, err
		}
		session := answer.Msg.GetSession()
		result.Reserved = append(result.Reserved, reservation{
			Outcome:    answer.Msg.GetOutcome().String(),
			SessionID:  session.GetSessionId(),
			ExternalID: session.GetKey().GetExternalId(),
		})
	}

	answer, err := client.ResolveSelection(ctx, bearing(token, &broker.ResolveSelectionRequest{
		Selector: &broker.ResolveSelectionRequest_SessionId{SessionId: result.Reserved[0].SessionID},
	}))
	if err != nil {
		return nil, err
	}
	session := answer.Msg.GetSelected().GetSession()
	result.Resolved = selection{SessionID: session.GetSessionId(), ExternalID: session.GetKey().GetExternalId()}

	for _, text := range strings.Split(os.Getenv("BROKER_TEXTS"), "\n") {
		one, err := takeTurn(ctx, client, text)
		if err != nil {
			return nil, err
		}
		result.Turns = append(result.Turns, one)
	}

	milliseconds, err := strconv.Atoi(os.Getenv("BROKER_DEADLINE_MS"))
	if err != nil {
		return nil, err
	}
	result.Failures = takeFailures(ctx, client, time.Duration(milliseconds)*time.Millisecond)
	return &result, nil
}

func main() {
	log.SetFlags(0)
	client, err := newClient()
	if err != nil {
		log.Fatal(err)
	}
	result, err := takeJourney(context.Background(), client)
	if err != nil {
		log.Fatal(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		log.Fatal(err)
	}
}
