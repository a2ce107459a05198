package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	api := flag.String("api", "../../api", "the api directory: operations.txt, models, and the packages to write")
	models := flag.String("models", "", "directory of full models to cut down first")
	flag.Parse()
	if err := run(*api, *models); err != nil {
		fmt.Fprintln(os.Stderr, "awsgen:", err)
		os.Exit(1)
	}
}

func run(api, models string) error {
	m, err := readManifest(filepath.Join(api, "operations.txt"))
	if err != nil {
		return err
	}
	if err := m.readInert(filepath.Join(api, "inert.txt")); err != nil {
		return err
	}
	for _, svc := range m.services {
		trimmed := filepath.Join(api, "models", svc.name+".json")
		if models != "" {
			full, err := readModel(filepath.Join(models, svc.name+".json"))
			if err != nil {
				return err
			}
			if err := trim(full, svc); err != nil {
				return err
			}
			if err := writeModel(trimmed, full); err != nil {
				return err
			}
		}
		model, err := readModel(trimmed)
		if err != nil {
			return err
		}
		src, err := generate(model, svc)
		if err != nil {
			return fmt.Errorf("%s: %w", svc.name, err)
		}
		dir := filepath.Join(api, svc.name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		for file, text := range src {
			if err := os.WriteFile(filepath.Join(dir, file), text, 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}
