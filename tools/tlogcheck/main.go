// Tlogcheck checks a log by C2SP tlog-tiles, and trusts nothing but the key it is given.
//
//	tlogcheck VKEY-FILE URL-OR-DIR [OLD-CHECKPOINT-FILE ...]
//
// It shares no code with the log: hashes, proofs and signatures are those of Go's own checksum
// database, golang.org/x/mod/sumdb. See README.md for what is checked.
package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// maxSize keeps a checkpoint's claim within the arithmetic of package tlog.
const maxSize = 1 << 48

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: tlogcheck VKEY-FILE URL-OR-DIR [OLD-CHECKPOINT-FILE ...]")
		os.Exit(2)
	}
	tree, err := check(os.Args[1], os.Args[2], os.Args[3:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "fault:", err)
		os.Exit(1)
	}
	fmt.Printf("ok: %d entries, root %s\n", tree.N, tree.Hash)
}

func check(vkeyFile, place string, oldFiles []string) (tree tlog.Tree, err error) {
	// Package tlog panics where its own arithmetic fails. No log may make us do that, but if one
	// does, it must read as a fault of the log and not as a crash of ours.
	defer func() {
		if caught := recover(); caught != nil {
			err = fmt.Errorf("the log cannot be checked: %v", caught)
		}
	}()

	verifier, err := readVerifier(vkeyFile)
	if err != nil {
		return tree, err
	}
	log := open(place)
	data, err := log.read("checkpoint")
	if err != nil {
		return tree, err
	}
	tree, err = openCheckpoint(data, verifier)
	if err != nil {
		return tree, fmt.Errorf("checkpoint: %w", err)
	}
	fmt.Printf("checkpoint: %s, %d entries, signed by its key\n", verifier.Name(), tree.N)

	hashes, err := checkEntries(log, tree)
	if err != nil {
		return tree, err
	}
	if err := checkInclusion(tree, hashes); err != nil {
		return tree, err
	}
	if err := checkGrowth(tree, hashes); err != nil {
		return tree, err
	}
	for _, file := range oldFiles {
		if err := checkOldCheckpoint(file, verifier, tree, hashes); err != nil {
			return tree, err
		}
	}
	if dir, ok := log.(directory); ok {
		if err := checkNothingBeyond(dir, tree.N); err != nil {
			return tree, err
		}
		if err := checkDisclosures(dir, tree.N); err != nil {
			return tree, err
		}
	}
	return tree, nil
}

func readVerifier(file string) (note.Verifier, error) {
	vkey, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	verifier, err := note.NewVerifier(strings.TrimSpace(string(vkey)))
	if err != nil {
		return nil, fmt.Errorf("%s is not a verifier key: %w", file, err)
	}
	return verifier, nil
}

// openCheckpoint verifies a note and reads its text as C2SP tlog-checkpoint.
func openCheckpoint(data []byte, verifier note.Verifier) (tlog.Tree, error) {
	opened, err := note.Open(data, note.VerifierList(verifier))
	if err != nil {
		return tlog.Tree{}, err
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) < 4 {
		return tlog.Tree{}, errors.New("the note has fewer than three lines")
	}
	if lines[0] != verifier.Name() {
		return tlog.Tree{}, fmt.Errorf("its origin is %q, its key's name %q", lines[0], verifier.Name())
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 || size > maxSize || strconv.FormatInt(size, 10) != lines[1] {
		return tlog.Tree{}, fmt.Errorf("its size %q is not one", lines[1])
	}
	root, err := tlog.ParseHash(lines[2])
	if err != nil {
		return tlog.Tree{}, fmt.Errorf("its root %q is not one", lines[2])
	}
	return tlog.Tree{N: size, Hash: root}, nil
}

// checkEntries hashes every entry anew and finds each of them in a tile that the root confirms.
// The hashes it returns are confirmed in the same way.
func checkEntries(log source, tree tlog.Tree) (tlog.HashReader, error) {
	if tree.N == 0 {
		return nil, checkEmpty(tree)
	}
	hashes := tlog.TileHashReader(tree, &tiles{log, map[tlog.Tile][]byte{}})
	if _, err := hashes.ReadHashes(nil); err != nil {
		return nil, misled("one of the last tiles of each level", err)
	}
	for n := int64(0); n*width < tree.N; n++ {
		bundle := bundleTile(n, tree.N)
		entries, err := readBundle(log, bundle)
		if err != nil {
			return nil, err
		}
		indexes := make([]int64, len(entries))
		for i := range entries {
			indexes[i] = tlog.StoredHashIndex(0, n*width+int64(i))
		}
		leaves, err := hashes.ReadHashes(indexes)
		if err != nil {
			leafTile := bundle
			leafTile.L = 0
			return nil, misled(path(leafTile)+", or a tile above it", err)
		}
		for i, entry := range entries {
			if tlog.RecordHash(entry) != leaves[i] {
				return nil, fmt.Errorf("entry %d in %s is not the one whose hash is in the tree", n*width+int64(i), path(bundle))
			}
		}
	}
	fmt.Printf("entries: all %d are in the tree\n", tree.N)
	return hashes, nil
}

// misled says which tiles have wrong hashes, unless they could not even be read.
func misled(tiles string, err error) error {
	if unread := (unreadTile{}); errors.As(err, &unread) {
		return unread
	}
	return fmt.Errorf("%s does not lead to the signed root: %w", tiles, err)
}

func checkEmpty(tree tlog.Tree) error {
	if empty, _ := tlog.TreeHash(0, nil); tree.Hash != empty {
		return fmt.Errorf("the root of no entries is signed as %s", tree.Hash)
	}
	return nil
}

// checkInclusion proves a sample of entries, the first and the last among them.
func checkInclusion(tree tlog.Tree, hashes tlog.HashReader) error {
	sample := places(tree.N - 1)
	for _, index := range sample {
		proof, err := tlog.ProveRecord(tree.N, index, hashes)
		if err != nil {
			return fmt.Errorf("no inclusion proof of entry %d: %w", index, err)
		}
		leaf, err := hashes.ReadHashes([]int64{tlog.StoredHashIndex(0, index)})
		if err != nil {
			return fmt.Errorf("no hash of entry %d: %w", index, err)
		}
		if err := tlog.CheckRecord(proof, tree.N, tree.Hash, index, leaf[0]); err != nil {
			return fmt.Errorf("entry %d is not proven to be in the tree: %w", index, err)
		}
	}
	fmt.Printf("inclusion: %d proofs hold\n", len(sample))
	return nil
}

// checkGrowth proves the tree to have grown from a sample of its earlier sizes.
func checkGrowth(tree tlog.Tree, hashes tlog.HashReader) error {
	checked := 0
	for _, size := range places(tree.N - 1) {
		if size == 0 {
			continue
		}
		root, err := tlog.TreeHash(size, hashes)
		if err != nil {
			return fmt.Errorf("no root at %d entries: %w", size, err)
		}
		if err := proveGrowth(tlog.Tree{N: size, Hash: root}, tree, hashes); err != nil {
			return err
		}
		checked++
	}
	fmt.Printf("consistency: %d proofs hold\n", checked)
	return nil
}

// checkOldCheckpoint finds a log that shrank, forked or was rewritten since it was last seen.
func checkOldCheckpoint(file string, verifier note.Verifier, tree tlog.Tree, hashes tlog.HashReader) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	old, err := openCheckpoint(data, verifier)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	switch {
	case old.N > tree.N:
		return fmt.Errorf("the log was cut: %s was signed at %d entries, and now there are %d", file, old.N, tree.N)
	case old.N == 0:
		err = checkEmpty(old)
	case old.N == tree.N && old.Hash != tree.Hash:
		err = errors.New("two roots are signed for one size")
	case old.N < tree.N:
		err = proveGrowth(old, tree, hashes)
	}
	if err != nil {
		return fmt.Errorf("the log was rewritten since %s was signed: %w", file, err)
	}
	fmt.Printf("old checkpoint: the log grew from the %d entries of %s\n", old.N, file)
	return nil
}

func proveGrowth(old, tree tlog.Tree, hashes tlog.HashReader) error {
	proof, err := tlog.ProveTree(tree.N, old.N, hashes)
	if err != nil {
		return fmt.Errorf("no consistency proof from %d entries: %w", old.N, err)
	}
	if err := tlog.CheckTree(proof, tree.N, tree.Hash, old.N, old.Hash); err != nil {
		return fmt.Errorf("the tree is not proven to begin with those %d entries: %w", old.N, err)
	}
	return nil
}

// places are some numbers from 0 to last: both ends, the edges of tiles, and 32 in between.
func places(last int64) []int64 {
	seen := map[int64]bool{}
	var chosen []int64
	add := func(place int64) {
		if place >= 0 && place <= last && !seen[place] {
			seen[place] = true
			chosen = append(chosen, place)
		}
	}
	for span := int64(1); span <= last; span *= width {
		add(span - 1)
		add(span)
		add(span + 1)
	}
	for i := int64(0); i <= 32; i++ {
		add(last / 32 * i)
	}
	add(last)
	return chosen
}
