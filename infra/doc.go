// Package infra holds the stack's nested templates, which template.yaml in the root
// puts together. It has no code but its tests: they hold the templates to the code for
// what cfn-lint cannot know (environments, routes, permissions, log messages). Read
// template.yaml first. infra/local, the stand-in for AWS, is a package of its own.
package infra
