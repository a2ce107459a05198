package asgapi

import (
	"slices"
	"strings"

	"skerry/api"
	as "skerry/api/autoscaling"
	"skerry/internal/scaling"
	"skerry/internal/store"
)

func (s *Server) putNotificationConfiguration(c *api.Call, in *as.PutNotificationConfigurationType) (*as.PutNotificationConfigurationOutput, error) {
	if err := required("TopicARN", in.TopicARN); err != nil {
		return nil, err
	}
	if !strings.HasPrefix(*in.TopicARN, "arn:aws:sns:") {
		return nil, invalid("Invalid topic ARN: %s", *in.TopicARN)
	}
	if len(in.NotificationTypes) == 0 {
		return nil, invalid("At least one notification type must be specified.")
	}
	for _, t := range in.NotificationTypes {
		if !slices.Contains(scaling.NotificationTypes, t) {
			return nil, invalid("%s is not a valid Notification Type", t)
		}
	}
	return nil, s.change(c, in.AutoScalingGroupName, "PutNotificationConfiguration", func(w *store.WriteTx, g scaling.Group) error {
		return s.Engine.PutNotifications(w, g, *in.TopicARN, in.NotificationTypes)
	})
}

func (s *Server) deleteNotificationConfiguration(c *api.Call, in *as.DeleteNotificationConfigurationType) (*as.DeleteNotificationConfigurationOutput, error) {
	if err := required("TopicARN", in.TopicARN); err != nil {
		return nil, err
	}
	return nil, s.change(c, in.AutoScalingGroupName, "DeleteNotificationConfiguration", func(w *store.WriteTx, g scaling.Group) error {
		return s.Engine.DeleteNotifications(w, g, *in.TopicARN)
	})
}

func (s *Server) describeNotificationConfigurations(c *api.Call, in *as.DescribeNotificationConfigurationsType) (*as.DescribeNotificationConfigurationsAnswer, error) {
	out := &as.DescribeNotificationConfigurationsAnswer{}
	return out, c.View(func(tx store.Tx) error {
		var rows []scaling.Notification
		for n := range scaling.Notifications.Prefix(tx, c.Scope().Prefix()) {
			if len(in.AutoScalingGroupNames) == 0 || slices.Contains(in.AutoScalingGroupNames, n.Group) {
				rows = append(rows, n)
			}
		}
		rows, next, err := page(rows, func(n scaling.Notification) string { return n.Group + ":" + n.Type + ":" + n.Topic }, in.MaxRecords, in.NextToken, 50, 100)
		out.NextToken = next
		for _, n := range rows {
			out.NotificationConfigurations = append(out.NotificationConfigurations, as.NotificationConfiguration{AutoScalingGroupName: &n.Group, NotificationType: &n.Type, TopicARN: &n.Topic})
		}
		return err
	})
}
