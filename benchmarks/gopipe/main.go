// The go-pipe side of the benchmarks.
//
// It reads requests, one a line: `kind count size where` (`-` where there is nothing to say). For each it runs
// the work `count` times and answers one line: seconds per item, and the bytes that the last item delivered, by
// which the asking side checks that the same work was done. What a kind does is said, for both sides, in
// the module of benchmarks/ that asks for it.
package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/github/go-pipe/pipe"
)

const chunkSize = 64 * 1024

var ctx = context.Background()

// counter is a writer that drops and counts: it is not an *os.File, so that bytes have to pass through this process.
type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) { c.n += int64(len(p)); return len(p), nil }

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func pass(_ context.Context, _ pipe.Env, in io.Reader, out io.Writer) error {
	_, err := io.Copy(out, in)
	return err
}

func produce(size int64) pipe.StageFunc {
	return func(_ context.Context, _ pipe.Env, _ io.Reader, out io.Writer) error {
		chunk := make([]byte, chunkSize)
		for left := size; left > 0; left -= chunkSize {
			if _, err := out.Write(chunk[:min(left, chunkSize)]); err != nil {
				return err
			}
		}
		return nil
	}
}

func consume(total *int64) pipe.StageFunc {
	return func(_ context.Context, _ pipe.Env, in io.Reader, _ io.Writer) error {
		chunk := make([]byte, chunkSize)
		for {
			n, err := in.Read(chunk)
			*total += int64(n)
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
		}
	}
}

func prefix(_ context.Context, _ pipe.Env, line []byte, out *bufio.Writer) error {
	if err := out.WriteByte('x'); err != nil {
		return err
	}
	if _, err := out.Write(line); err != nil {
		return err
	}
	return out.WriteByte('\n')
}

func output(p *pipe.Pipeline) int64 {
	data, err := p.Output(ctx)
	must(err)
	return int64(len(data))
}

func zeros(size int64) pipe.Stage {
	return pipe.Command("head", "-c", strconv.FormatInt(size, 10), "/dev/zero")
}

// toSocket sends what `head` writes to the draining process at `port`, which answers with how much came.
// The socket is as the kernel makes it, as on the other side, and not with TCP_NODELAY as Go makes it.
func toSocket(size int64, port string) int64 {
	conn, err := net.Dial("tcp", "127.0.0.1:"+port)
	must(err)
	defer conn.Close()
	must(conn.(*net.TCPConn).SetNoDelay(false))
	p := pipe.New(pipe.WithStdout(conn))
	p.Add(zeros(size))
	must(p.Run(ctx))
	must(conn.(*net.TCPConn).CloseWrite())
	answer, err := io.ReadAll(conn)
	must(err)
	n, err := strconv.ParseInt(strings.TrimSpace(string(answer)), 10, 64)
	must(err)
	return n
}

func work(kind string, size int64, where string) int64 {
	var total int64
	switch kind {
	case "true":
		p := pipe.New()
		p.Add(pipe.Command("true"))
		must(p.Run(ctx))
	case "echo9cat":
		p := pipe.New()
		p.Add(pipe.Command("echo", "hello"))
		for range 9 {
			p.Add(pipe.Command("cat"))
		}
		total = output(p)
	case "functions":
		p := pipe.New(pipe.WithStdin(strings.NewReader("hello\n")))
		for range 10 {
			p.Add(pipe.Function("pass", pass))
		}
		total = output(p)
	case "mixed":
		p := pipe.New(pipe.WithStdin(strings.NewReader("hello\n")))
		for range 5 {
			p.Add(pipe.Function("pass", pass), pipe.Command("cat"))
		}
		total = output(p)
	case "function-function":
		p := pipe.New()
		p.Add(pipe.Function("produce", produce(size)), pipe.Function("consume", consume(&total)))
		must(p.Run(ctx))
	case "command-command": // WithStdout would copy, so the last stage redirects
		p := pipe.New()
		p.Add(zeros(size), pipe.Command("sh", "-c", "exec cat >/dev/null"))
		must(p.Run(ctx))
	case "command-socket":
		total = toSocket(size, where)
	case "command-writer":
		sink := &counter{}
		p := pipe.New(pipe.WithStdout(sink))
		p.Add(zeros(size))
		must(p.Run(ctx))
		total = sink.n
	case "function-cat-function":
		p := pipe.New()
		p.Add(pipe.Function("produce", produce(size)), pipe.Command("cat"), pipe.Function("consume", consume(&total)))
		must(p.Run(ctx))
	case "lines": // cat FILE | linewise | wc -c
		p := pipe.New()
		p.Add(pipe.Command("cat", where), pipe.LinewiseFunction("prefix", prefix), pipe.Command("wc", "-c"))
		data, err := p.Output(ctx)
		must(err)
		total, err = strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
		must(err)
	case "lines-cat": // cat FILE | linewise | cat >/dev/null
		p := pipe.New()
		p.Add(
			pipe.Command("cat", where),
			pipe.LinewiseFunction("prefix", prefix),
			pipe.Command("sh", "-c", "exec cat >/dev/null"),
		)
		must(p.Run(ctx))
	case "service": // a short pipeline into a writer; the answer's second figure is bytes allocated
		sink := &counter{}
		p := pipe.New(pipe.WithStdout(sink))
		p.Add(pipe.Command("echo", "hello"))
		must(p.Run(ctx))
	default:
		must(fmt.Errorf("no such work: %q", kind))
	}
	return total
}

func main() {
	requests := bufio.NewReader(os.Stdin)
	for {
		var kind, where string
		var count, size int64
		if _, err := fmt.Fscan(requests, &kind, &count, &size, &where); err != nil {
			return
		}
		var before, after runtime.MemStats
		if kind == "service" {
			runtime.ReadMemStats(&before)
		}
		var delivered int64
		began := time.Now()
		for range count {
			delivered = work(kind, size, where)
		}
		seconds := time.Since(began).Seconds() / float64(count)
		if kind == "service" {
			runtime.ReadMemStats(&after)
			delivered = int64(after.TotalAlloc-before.TotalAlloc) / count
		}
		fmt.Printf("%.9f %d\n", seconds, delivered)
	}
}
