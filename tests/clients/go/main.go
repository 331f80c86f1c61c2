// The real OpenTelemetry exporters for Go in the steps of a case, as applications use them that give up TLS.
//
// Arguments: DIRECTORY (of certificates) FILE (of cases). The same as `pod-client cases`, see there.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc/credentials"
)

const (
	patience = 2 * time.Second // less than the silent server is silent
	pause    = 2500 * time.Millisecond
)

type testCase struct {
	Name     string
	Protocol string
	Target   string
	Steps    []string
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) != 2 {
		return errors.New("arguments: DIRECTORY FILE")
	}
	text, err := os.ReadFile(arguments[1])
	if err != nil {
		return err
	}
	var cases []testCase
	if err := json.Unmarshal(text, &cases); err != nil {
		return err
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(error) {})) // each step says how it ended
	fmt.Println("pid", os.Getpid())
	var all sync.WaitGroup
	for _, one := range cases {
		all.Go(func() {
			for _, step := range one.Steps {
				if step == "pause" {
					time.Sleep(pause)
				} else if err := runStep(arguments[0], one, step); err != nil {
					fmt.Printf("%s %s failed: %q\n", one.Name, step, err)
				} else {
					fmt.Printf("%s %s ok\n", one.Name, step)
				}
			}
		})
	}
	all.Wait()
	return nil
}

func runStep(directory string, one testCase, step string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	version, how, _ := strings.Cut(step, "/")
	var config *tls.Config
	if version != "plain" {
		made, err := configuration(directory, version, how == "foreign")
		if err != nil {
			return err
		}
		config = made
	}
	if how == "late" {
		return late(ctx, one.Target, config)
	}
	exporter, err := exporterFor(ctx, one, config)
	if err != nil {
		return err
	}
	defer exporter.Shutdown(ctx)
	return exporter.ExportSpans(ctx, oneSpan())
}

func configuration(directory, version string, foreign bool) (*tls.Config, error) {
	file := "ca.crt"
	if foreign {
		file = "foreign-ca.crt"
	}
	pem, err := os.ReadFile(filepath.Join(directory, file))
	if err != nil {
		return nil, err
	}
	config := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	config.RootCAs.AppendCertsFromPEM(pem)
	switch version {
	case "tls":
	case "tls12":
		config.MaxVersion = tls.VersionTLS12
	case "tls13":
		config.MinVersion = tls.VersionTLS13
	default:
		return nil, fmt.Errorf("no step is called %q", version)
	}
	return config, nil
}

// late looks at the name when the handshake is done, and goes.
func late(ctx context.Context, target string, config *tls.Config) error {
	config.ServerName = "elsewhere.example"
	connection, err := (&tls.Dialer{NetDialer: &net.Dialer{}, Config: config}).DialContext(ctx, "tcp", target)
	if err != nil {
		return err
	}
	connection.Close()
	return errors.New("the certificate is for another name")
}

func exporterFor(ctx context.Context, one testCase, config *tls.Config) (*otlptrace.Exporter, error) {
	if one.Protocol == "grpc" {
		options := []otlptracegrpc.Option{
			otlptracegrpc.WithEndpoint(one.Target),
			otlptracegrpc.WithTimeout(patience),
		}
		if config == nil {
			options = append(options, otlptracegrpc.WithInsecure())
		} else {
			options = append(options, otlptracegrpc.WithTLSCredentials(credentials.NewTLS(config)))
		}
		return otlptracegrpc.New(ctx, options...)
	}
	options := []otlptracehttp.Option{
		otlptracehttp.WithEndpoint(one.Target),
		otlptracehttp.WithTimeout(patience),
	}
	if config == nil {
		options = append(options, otlptracehttp.WithInsecure())
	} else {
		options = append(options, otlptracehttp.WithTLSClientConfig(config))
	}
	return otlptracehttp.New(ctx, options...)
}

// oneSpan makes a span as the SDK makes it.
func oneSpan() []sdk.ReadOnlySpan {
	provider := sdk.NewTracerProvider()
	_, span := provider.Tracer("cases").Start(context.Background(), "checkout")
	span.End()
	return []sdk.ReadOnlySpan{span.(sdk.ReadOnlySpan)}
}
