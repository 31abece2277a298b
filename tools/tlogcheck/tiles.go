package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

const (
	height = 8           // of every tile
	width  = 1 << height // of a full one
	// maxFile is more than the largest bundle: 256 entries of 65,535 bytes and their lengths.
	maxFile = width * (1 << 16) * 2
)

// A source is a place that serves a log's files.
type source interface {
	read(path string) ([]byte, error)
}

type directory string

type website string

func open(place string) source {
	if strings.HasPrefix(place, "http://") || strings.HasPrefix(place, "https://") {
		return website(strings.TrimRight(place, "/"))
	}
	return directory(place)
}

func (dir directory) read(path string) ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(string(dir), filepath.FromSlash(path)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is missing", path)
	}
	return data, err
}

var client = &http.Client{Timeout: time.Minute}

func (site website) read(path string) ([]byte, error) {
	answer, err := client.Get(string(site) + "/" + path)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s is missing: the server answers %s", path, answer.Status)
	}
	data, err := io.ReadAll(io.LimitReader(answer.Body, maxFile))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return data, nil
}

// path is where C2SP tlog-tiles puts a tile. It differs from the checksum database, which names
// the height as well and calls entries data.
func path(tile tlog.Tile) string {
	below := strings.TrimPrefix(tile.Path(), "tile/8/")
	if tile.L == -1 {
		below = "entries" + strings.TrimPrefix(below, "data")
	}
	return "tile/" + below
}

// parsePath is the inverse of path.
func parsePath(name string) (tlog.Tile, error) {
	below := strings.TrimPrefix(name, "tile/")
	if after, ok := strings.CutPrefix(below, "entries"); ok {
		below = "data" + after
	}
	tile, err := tlog.ParseTilePath("tile/8/" + below)
	if err != nil || path(tile) != name {
		return tile, fmt.Errorf("%s is not the path of a tile", name)
	}
	return tile, nil
}

// An unreadTile is one that is missing or not whole. Package tlog hands it on as it is, and has
// errors of its own for tiles whose hashes are wrong.
type unreadTile struct{ error }

// tiles is a tlog.TileReader over a source. It keeps what package tlog has confirmed.
type tiles struct {
	log       source
	confirmed map[tlog.Tile][]byte
}

func (t *tiles) Height() int { return height }

func (t *tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	read := make([][]byte, len(wanted))
	for i, tile := range wanted {
		data, ok := t.confirmed[tile]
		if !ok {
			var err error
			if data, err = readTile(t.log, tile); err != nil {
				return nil, unreadTile{err}
			}
		}
		read[i] = data
	}
	return read, nil
}

func (t *tiles) SaveTiles(saved []tlog.Tile, data [][]byte) {
	for i, tile := range saved {
		t.confirmed[tile] = data[i]
	}
}

func readTile(log source, tile tlog.Tile) ([]byte, error) {
	data, err := log.read(path(tile))
	if size := tile.W * tlog.HashSize; err == nil && len(data) != size {
		err = fmt.Errorf("%s has %d bytes and not %d", path(tile), len(data), size)
	}
	return data, err
}

// bundleTile is the n-th entry bundle of a log, partial if it is the last.
func bundleTile(n, size int64) tlog.Tile {
	return tlog.Tile{H: height, L: -1, N: n, W: int(min(width, size-n*width))}
}

// readBundle reads as many entries as the tile is wide, each after its length in two bytes.
func readBundle(log source, tile tlog.Tile) ([][]byte, error) {
	data, err := log.read(path(tile))
	if err != nil {
		return nil, err
	}
	entries := make([][]byte, tile.W)
	for i := range entries {
		if len(data) < 2 || len(data)-2 < int(binary.BigEndian.Uint16(data)) {
			return nil, fmt.Errorf("%s ends before entry %d of its %d", path(tile), i+1, tile.W)
		}
		end := 2 + int(binary.BigEndian.Uint16(data))
		entries[i], data = data[2:end], data[end:]
	}
	if len(data) > 0 {
		return nil, fmt.Errorf("%s goes on after its %d entries", path(tile), tile.W)
	}
	return entries, nil
}
