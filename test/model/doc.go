// Package model is the control plane in a world of its own: the real functions, the
// real loop of the room task, and everything between and around them simulated on
// virtual time, with whatever may go wrong going wrong by a seed.
//
// Real are functions/entry with all of functions/control behind it, and roomtask/room.
// Simulated are the table (table.go), Lambda (lambda.go: sandboxes that crash between
// any two effects, stand still, have wrong clocks), ECS, which is the meter of the bill
// (ecs.go), EventBridge and the schedule (events.go), the WebSocket gateway
// (gateway.go), the warm pool's tasks (pool.go), the task's link and media (task.go),
// browsers (client.go) and the product (product.go, burst.go, its webhook endpoints in
// webhook.go and gone.go). One thing happens at a time: the functions are
// coroutines, and the scheduler (world.go) runs whoever is next.
//
// Nothing goes wrong by itself. Every fault is a choice that chance.go makes from the
// seed and from where the fault would strike, so that a run can be repeated with a part
// of its faults: shrink.go finds the smallest part that still fails. invariants.go holds
// at every commit and every step, audit.go with pool.go, sums.go and gone.go at rest.
//
// Tests alone use the package. Read world.go first.
package model
