package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// checkNothingBeyond finds tiles that only a larger tree has: the checkpoint is then not of the
// log that the directory holds. A website's files cannot be listed, so this is for directories.
func checkNothingBeyond(dir directory, size int64) error {
	root := filepath.Join(string(dir), "tile")
	err := filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(string(dir), file)
		if err != nil {
			return err
		}
		tile, err := parsePath(filepath.ToSlash(name))
		if err != nil {
			return err
		}
		if tile.N*width+int64(tile.W) > size>>(height*max(tile.L, 0)) {
			return fmt.Errorf("%s belongs to a larger tree than the signed one: the checkpoint is too old", path(tile))
		}
		return nil
	})
	if size == 0 && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// A line of disclosures.jsonl: what was told about one entry.
type disclosed struct {
	Index       int64    `json:"index"`
	Disclosures []string `json:"disclosures"`
}

// checkDisclosures finds the digest of each disclosure in its entry: RFC 9901 section 4.2.3.
// The entries themselves have been checked by now.
func checkDisclosures(dir directory, size int64) error {
	file, err := os.Open(filepath.Join(string(dir), "disclosures.jsonl"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	entries := entryReader{log: dir, size: size, n: -1}
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, maxFile)
	number, count := 0, 0
	for lines.Scan() {
		number++
		var line disclosed
		err := json.Unmarshal(lines.Bytes(), &line)
		if err == nil {
			err = checkDisclosed(line, &entries)
		}
		if err != nil {
			return fmt.Errorf("disclosures.jsonl, line %d: %w", number, err)
		}
		count += len(line.Disclosures)
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("disclosures.jsonl, line %d: %w", number+1, err)
	}
	fmt.Printf("disclosures: all %d belong to their entries\n", count)
	return nil
}

func checkDisclosed(line disclosed, entries *entryReader) error {
	entry, err := entries.read(line.Index)
	if err != nil {
		return err
	}
	var leaf struct {
		Digests   []string `json:"_sd"`
		Algorithm string   `json:"_sd_alg"`
	}
	if err := json.Unmarshal(entry, &leaf); err != nil {
		return fmt.Errorf("entry %d cannot hold disclosures: %w", line.Index, err)
	}
	if leaf.Algorithm != "sha-256" {
		return fmt.Errorf("entry %d digests its disclosures with %q", line.Index, leaf.Algorithm)
	}
	for i, disclosure := range line.Disclosures {
		digest := sha256.Sum256([]byte(disclosure))
		if !slices.Contains(leaf.Digests, base64.RawURLEncoding.EncodeToString(digest[:])) {
			return fmt.Errorf("disclosure %d is not one of entry %d", i+1, line.Index)
		}
	}
	return nil
}

// An entryReader reads single entries, and keeps the bundle it read last.
type entryReader struct {
	log    source
	size   int64
	n      int64
	bundle [][]byte
}

func (r *entryReader) read(index int64) ([]byte, error) {
	if index < 0 || index >= r.size {
		return nil, fmt.Errorf("there is no entry %d", index)
	}
	if n := index / width; n != r.n {
		bundle, err := readBundle(r.log, bundleTile(n, r.size))
		if err != nil {
			return nil, err
		}
		r.n, r.bundle = n, bundle
	}
	return r.bundle[index%width], nil
}
