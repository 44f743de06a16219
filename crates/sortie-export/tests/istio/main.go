// Checks Istio's resources, documents of YAML on standard input, as an API server with the CRDs of
// istio.io/api does: schemas, CEL rules, and no field that would be dropped.
//
// The only argument is that module's folder. Mistakes are printed, one a line.
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	// Keeps the module in go.mod: its CRDs are no Go package.
	_ "istio.io/api/networking/v1"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/util/yaml"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	sigsyaml "sigs.k8s.io/yaml"
)

// By apiVersion and kind.
type schemas map[[2]string]*v1.JSONSchemaProps

func main() {
	if len(os.Args) != 2 {
		fail(errors.New("usage: istio FOLDER-OF-ISTIO.IO/API <RESOURCES"))
	}
	known, err := crds(filepath.Join(os.Args[1], "kubernetes", "customresourcedefinitions.gen.yaml"))
	if err != nil {
		fail(err)
	}
	wrong, checked := 0, 0
	err = documents(os.Stdin, func(text []byte) error {
		strict, err := sigsyaml.YAMLToJSONStrict(text)
		if err != nil {
			return err
		}
		// Numbers as an API server has them.
		var resource map[string]any
		if err := json.Unmarshal(strict, &resource); err != nil {
			return err
		}
		checked++
		for _, mistake := range check(known, resource) {
			fmt.Printf("%v %v: %v\n", resource["kind"], resource["metadata"], mistake)
			wrong++
		}
		return nil
	})
	if err != nil {
		fail(err)
	}
	fmt.Fprintf(os.Stderr, "%d resources, %d mistakes\n", checked, wrong)
	if wrong > 0 || checked == 0 {
		os.Exit(1)
	}
}

func crds(path string) (schemas, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	known := schemas{}
	return known, documents(file, func(text []byte) error {
		var crd v1.CustomResourceDefinition
		if err := sigsyaml.Unmarshal(text, &crd); err != nil {
			return err
		}
		for _, version := range crd.Spec.Versions {
			key := [2]string{crd.Spec.Group + "/" + version.Name, crd.Spec.Names.Kind}
			known[key] = version.Schema.OpenAPIV3Schema
		}
		return nil
	})
}

func documents(from io.Reader, each func([]byte) error) error {
	reader := yaml.NewYAMLReader(bufio.NewReader(from))
	for {
		text, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if len(bytes.TrimSpace(text)) > 0 && !onlyComments(text) {
			if err := each(text); err != nil {
				return err
			}
		}
	}
}

func onlyComments(text []byte) bool {
	for _, line := range bytes.Split(text, []byte("\n")) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' {
			return false
		}
	}
	return true
}

func check(known schemas, resource map[string]any) []error {
	key := [2]string{fmt.Sprint(resource["apiVersion"]), fmt.Sprint(resource["kind"])}
	props, ok := known[key]
	if !ok {
		return []error{fmt.Errorf("no CRD for %v", key)}
	}
	internal := &apiextensions.JSONSchemaProps{}
	if err := v1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(props, internal, nil); err != nil {
		return []error{err}
	}
	structural, err := schema.NewStructural(internal)
	if err != nil {
		return []error{err}
	}
	validator, _, err := validation.NewSchemaValidator(internal)
	if err != nil {
		return []error{err}
	}
	var mistakes []error
	for _, mistake := range validation.ValidateCustomResource(nil, resource, validator) {
		mistakes = append(mistakes, mistake)
	}
	rules := cel.NewValidator(structural, true, celconfig.PerCallLimit)
	broken, _ := rules.Validate(context.Background(), field.NewPath(""), structural, resource, nil, celconfig.RuntimeCELCostBudget)
	for _, mistake := range broken {
		mistakes = append(mistakes, mistake)
	}
	options := schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}
	for _, path := range pruning.PruneWithOptions(resource, structural, true, options) {
		mistakes = append(mistakes, fmt.Errorf("unknown field %s", path))
	}
	return mistakes
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(2)
}
