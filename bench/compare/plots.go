package main

import (
	"fmt"
	"image/color"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// colours belong to clients, so that they are the same in all plots.
var colours = map[string]color.Color{
	"troupe":        color.RGBA{R: 0x1b, G: 0x7a, B: 0x3d, A: 0xff},
	"troupe-actor":  color.RGBA{R: 0x66, G: 0xb9, B: 0x7f, A: 0xff},
	"troupe-shared": color.RGBA{R: 0x66, G: 0xb9, B: 0x7f, A: 0xff},
	"franz":         color.RGBA{R: 0x1f, G: 0x5f, B: 0xa8, A: 0xff},
	"sarama":        color.RGBA{R: 0xd9, G: 0x82, B: 0x1b, A: 0xff},
	"kafka-go":      color.RGBA{R: 0x8a, G: 0x4f, B: 0xa3, A: 0xff},
	"confluent":     color.RGBA{R: 0xb0, G: 0x2e, B: 0x2e, A: 0xff},
	"java":          color.RGBA{R: 0x7a, G: 0x5c, B: 0x3a, A: 0xff},
	"duties":        color.RGBA{R: 0x70, G: 0x70, B: 0x70, A: 0xff},
	"floor":         color.RGBA{R: 0xb5, G: 0xb5, B: 0xb5, A: 0xff},
	"generator":     color.RGBA{R: 0xb5, G: 0xb5, B: 0xb5, A: 0xff},
}

// A chart is one picture: a group of bars for each row.
type chart struct {
	file, title, axis string
	groups            []string
	of                measure
	// skip leaves out clients that would only stretch the scale.
	skip []string
}

var charts = []chart{
	{"cpu-100B", "CPU, flat out, 100 B", "CPU seconds per million records", []string{"flat/100B"}, cpuPerMillion, nil},
	{"cpu-1KB", "CPU, flat out, 1 KB and more", "CPU seconds per million records", []string{"flat/1KB", "flat/10KB"}, cpuPerMillion, nil},
	{"rate", "Records per second, flat out", "records/s", []string{"flat"}, recordsPerSecond, nil},
	{"codec", "Records per second, compressed text", "records/s", []string{"codec"}, recordsPerSecond, nil},
	{"memory", "Peak resident memory, flat out", "MB", []string{"flat"}, megabytes, nil},
	{"latency-p50", "Open loop, median", "ms from the time a record should have been sent", []string{"open"}, latencyP50, nil},
	{"latency-p99", "Open loop, p99", "ms from the time a record should have been sent", []string{"open"}, latencyP99, nil},
	{"calls", "Calls that wait, p99", "ms", []string{"call"}, latencyP99, nil},
	{"slow", "A broker that answers after 5 and 50 ms", "records/s", []string{"slow"}, recordsPerSecond, nil},
	{"real-cpu", "CPU, Apache Kafka", "CPU seconds per million records", []string{"real"}, cpuPerMillion, nil},
	{"real-rate", "Records per second, Apache Kafka", "records/s", []string{"real"}, recordsPerSecond, nil},
	{"real-p99", "p99, Apache Kafka", "ms", []string{"real"}, latencyP99, nil},
}

// bars are what a chart shows: values by row and client; NaN-free, 0 where there
// is no figure.
func (c chart) bars(all ...*Results) (rows, clients []string, values map[string][]float64) {
	var found []*Result
	for _, results := range all {
		if results == nil {
			continue
		}
		for _, r := range results.Rows {
			begins := func(group string) bool { return r.Row == group || strings.HasPrefix(r.Row, group+"/") }
			if slices.ContainsFunc(c.groups, begins) && len(r.each("", c.of)) > 0 {
				found = append(found, r)
			}
		}
	}
	for _, r := range found {
		rows = append(rows, r.Row)
		for _, client := range r.Clients {
			if !slices.Contains(clients, client) && !slices.Contains(c.skip, client) {
				clients = append(clients, client)
			}
		}
	}
	values = map[string][]float64{}
	for _, client := range clients {
		for _, r := range found {
			v := r.each(client, c.of)
			if len(v) == 0 {
				v = []float64{0}
			}
			values[client] = append(values[client], median(v))
		}
	}
	return rows, clients, values
}

// plot makes the picture, and says how high it should be. It is nil when there is
// nothing to show.
func (c chart) plot(all ...*Results) (*plot.Plot, vg.Length, error) {
	rows, clients, values := c.bars(all...)
	if len(rows) == 0 {
		return nil, 0, nil
	}
	edge, cut := edgeOf(values)
	p := plot.New()
	p.Title.Text = c.title
	p.X.Label.Text = c.axis
	if cut {
		p.X.Label.Text += " (bars at the edge go on)"
	}
	const legend = 1.2 // keeps the bars out of it
	p.X.Min, p.X.Max = 0, edge*legend
	p.Legend.Top = true
	p.Add(plotter.NewGrid())
	const bar, gap = 7, 10 // points
	group := vg.Length(bar*len(clients) + gap)
	for i, client := range clients {
		// From the bottom up: the first row and the first client on top.
		reversed := slices.Clone(values[client])
		slices.Reverse(reversed)
		for i, v := range reversed {
			reversed[i] = min(v, edge)
		}
		b, err := plotter.NewBarChart(plotter.Values(reversed), bar)
		if err != nil {
			return nil, 0, err
		}
		b.Horizontal = true
		b.LineStyle.Width = 0
		b.Color = colours[client]
		if b.Color == nil {
			b.Color = color.Gray{Y: 0xd0}
		}
		b.Offset = vg.Length(bar) * (vg.Length(len(clients)-1)/2 - vg.Length(i))
		p.Add(b)
		p.Legend.Add(client, b)
	}
	names := slices.Clone(rows)
	slices.Reverse(names)
	p.NominalY(names...)
	p.X.Max = edge * legend // adding a bar has moved it
	const edges = 110
	return p, group*vg.Length(len(rows)) + edges, nil
}

// edgeOf is where a chart ends: at the greatest value, unless that is of a client
// so far off that the two which matter could not be told apart.
func edgeOf(values map[string][]float64) (edge float64, cut bool) {
	const far = 4
	greatest := 0.0
	for client, v := range values {
		greatest = max(greatest, slices.Max(v))
		if client == ours || client == baseline {
			edge = max(edge, far*slices.Max(v))
		}
	}
	if edge == 0 || edge >= greatest {
		return greatest, false
	}
	return edge, true
}

// draw writes the chart as SVG; drawn is false when there is nothing to show.
func (c chart) draw(folder string, all ...*Results) (drawn bool, err error) {
	p, high, err := c.plot(all...)
	if p == nil || err != nil {
		return false, err
	}
	const wide = 760
	canvas, err := draw.NewFormattedCanvas(wide, high, "svg")
	if err != nil {
		return false, err
	}
	const margin = 12
	p.Draw(draw.Crop(draw.New(canvas), margin, -margin, margin, -margin))
	f, err := os.Create(filepath.Join(folder, c.file+".svg"))
	if err != nil {
		return false, err
	}
	if _, err := canvas.WriteTo(f); err != nil {
		_ = f.Close()
		return false, err
	}
	return true, f.Close()
}

// plots draws all charts and returns the page that shows them.
func plots(folder string, all ...*Results) (string, error) {
	var b strings.Builder
	for _, c := range charts {
		drawn, err := c.draw(folder, all...)
		if err != nil {
			return "", fmt.Errorf("plot %s: %w", c.file, err)
		}
		if drawn {
			fmt.Fprintf(&b, "\n![%s](%s/%s.svg)\n", c.title, figuresFolder, c.file)
		}
	}
	return b.String(), nil
}
