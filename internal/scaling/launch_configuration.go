package scaling

import (
	"skerry/internal/fault"
	"skerry/internal/scope"
	"skerry/internal/store"
)

// CreateLaunchConfiguration makes a launch configuration. It can't be changed afterwards.
func (e *Engine) CreateLaunchConfiguration(w *store.WriteTx, l LaunchConfiguration) error {
	if err := checkName("Launch configuration", l.Name); err != nil {
		return err
	}
	if _, ok := LaunchConfigurations.Get(w, l.Key(l.Name)); ok {
		return fault.New(fault.Exists, "AlreadyExists", "Launch Configuration by this name already exists - A launch configuration already exists with the name %s", l.Name)
	}
	n := 0
	for range LaunchConfigurations.Prefix(w, l.Prefix()) {
		n++
	}
	if n >= MaxConfigs {
		return fault.New(fault.Limit, "LimitExceeded", "You have already reached the limit of %d launch configurations.", MaxConfigs)
	}
	l.UUID, l.CreatedAt = newUUID(w.Rand()), w.Now()
	LaunchConfigurations.Put(w, l)
	return nil
}

// DeleteLaunchConfiguration deletes a launch configuration that no group uses.
func (e *Engine) DeleteLaunchConfiguration(w *store.WriteTx, s scope.Scope, name string) error {
	if _, ok := LaunchConfigurations.Get(w, s.Key(name)); !ok {
		return fault.New(fault.NotFound, "ValidationError", "Launch configuration name not found - Launch configuration %s not found", name)
	}
	for g := range Groups.Prefix(w, s.Prefix()) {
		if g.LaunchConfiguration == name {
			return fault.New(fault.Conflict, "ResourceInUse", "Cannot delete launch configuration %s because it is attached to AutoScalingGroup %s", name, g.Name)
		}
	}
	LaunchConfigurations.Delete(w, s.Key(name))
	return nil
}

// maxTopics is AWS's quota of topics a group.
const maxTopics = 10

// PutNotifications sets the types of a group that a topic hears of.
func (e *Engine) PutNotifications(w *store.WriteTx, g Group, topic string, types []string) error {
	if err := needSink(w); err != nil {
		return err
	}
	topics, known := map[string]bool{topic: true}, false
	for _, n := range of(w, Notifications, g.Scope, g.Name) {
		topics[n.Topic] = true
		if n.Topic == topic {
			known = true
			Notifications.Delete(w, n.Key(n.Group+":"+n.Type+":"+n.Topic))
		}
	}
	if len(topics) > maxTopics {
		return fault.New(fault.Limit, "LimitExceeded", "A group may have up to %d notification topics.", maxTopics)
	}
	if !known {
		g.tellTest(w, topic)
	}
	for _, t := range types {
		Notifications.Put(w, Notification{Scope: g.Scope, Group: g.Name, Topic: topic, Type: t})
	}
	return nil
}

// DeleteNotifications removes a topic from a group.
func (e *Engine) DeleteNotifications(w *store.WriteTx, g Group, topic string) error {
	found := false
	for _, n := range of(w, Notifications, g.Scope, g.Name) {
		if n.Topic == topic {
			found = true
			Notifications.Delete(w, n.Key(n.Group+":"+n.Type+":"+n.Topic))
		}
	}
	if !found {
		return invalid("Notification Topic '%s' doesn't exist for '%s'", topic, g.ARN())
	}
	return nil
}
