resource "aws_autoscaling_group" "web" {
  name                      = "${var.name}-web"
  min_size                  = var.desired
  max_size                  = 6
  desired_capacity          = var.desired
  vpc_zone_identifier       = aws_subnet.public[*].id
  target_group_arns         = [aws_lb_target_group.web.arn, aws_lb_target_group.tcp.arn]
  health_check_type         = "ELB"
  health_check_grace_period = 120
  default_cooldown          = 120
  default_instance_warmup   = 60
  termination_policies      = ["OldestLaunchTemplate", "Default"]
  enabled_metrics           = ["GroupDesiredCapacity", "GroupInServiceInstances"]
  capacity_rebalance        = false
  wait_for_capacity_timeout = "5m"
  min_elb_capacity          = 1
  wait_for_elb_capacity     = var.desired

  launch_template {
    id      = aws_launch_template.web.id
    version = aws_launch_template.web.latest_version
  }

  instance_refresh {
    strategy = "Rolling"
    preferences {
      min_healthy_percentage = 50
      instance_warmup        = 20
    }
  }

  dynamic "tag" {
    for_each = { Name = "${var.name}-web", Environment = var.environment, Service = "web" }
    content {
      key                 = tag.key
      value               = tag.value
      propagate_at_launch = tag.key != "Service"
    }
  }
}

resource "aws_autoscaling_lifecycle_hook" "drain" {
  name                   = "drain"
  autoscaling_group_name = aws_autoscaling_group.web.name
  lifecycle_transition   = "autoscaling:EC2_INSTANCE_TERMINATING"
  default_result         = "CONTINUE"
  heartbeat_timeout      = 30
  notification_metadata  = jsonencode({ reason = "drain" })
}

resource "aws_autoscaling_policy" "cpu" {
  name                      = "cpu"
  autoscaling_group_name    = aws_autoscaling_group.web.name
  policy_type               = "TargetTrackingScaling"
  estimated_instance_warmup = 60
  target_tracking_configuration {
    predefined_metric_specification {
      predefined_metric_type = "ASGAverageCPUUtilization"
    }
    target_value = var.cpu_target
  }
}

resource "aws_autoscaling_policy" "requests" {
  name                   = "requests"
  autoscaling_group_name = aws_autoscaling_group.web.name
  policy_type            = "TargetTrackingScaling"
  target_tracking_configuration {
    predefined_metric_specification {
      predefined_metric_type = "ALBRequestCountPerTarget"
      resource_label         = "${aws_lb.web.arn_suffix}/${aws_lb_target_group.web.arn_suffix}"
    }
    target_value     = 1000
    disable_scale_in = true
  }
}

resource "aws_autoscaling_policy" "step" {
  name                      = "step"
  autoscaling_group_name    = aws_autoscaling_group.web.name
  policy_type               = "StepScaling"
  adjustment_type           = "ChangeInCapacity"
  metric_aggregation_type   = "Maximum"
  estimated_instance_warmup = 30
  step_adjustment {
    scaling_adjustment          = 1
    metric_interval_lower_bound = 0
    metric_interval_upper_bound = 20
  }
  step_adjustment {
    scaling_adjustment          = 2
    metric_interval_lower_bound = 20
  }
}

resource "aws_autoscaling_policy" "simple" {
  name                     = "simple"
  autoscaling_group_name   = aws_autoscaling_group.web.name
  adjustment_type          = "PercentChangeInCapacity"
  scaling_adjustment       = -10
  min_adjustment_magnitude = 1
  cooldown                 = 60
}

resource "aws_autoscaling_schedule" "friday" {
  scheduled_action_name  = "friday"
  autoscaling_group_name = aws_autoscaling_group.web.name
  recurrence             = "0 18 * * 5"
  time_zone              = "Europe/Berlin"
  min_size               = 2
  max_size               = 6
  desired_capacity       = 4
}

resource "aws_autoscaling_schedule" "once" {
  scheduled_action_name  = "once"
  autoscaling_group_name = aws_autoscaling_group.web.name
  start_time             = "2037-01-01T06:00:00Z"
  min_size               = -1
  max_size               = -1
  desired_capacity       = 3
}

resource "aws_cloudwatch_metric_alarm" "cpu_high" {
  alarm_name          = "${var.name}-cpu-high"
  alarm_description   = "the group is busy"
  comparison_operator = "GreaterThanOrEqualToThreshold"
  evaluation_periods  = 2
  datapoints_to_alarm = 2
  metric_name         = "CPUUtilization"
  namespace           = "AWS/EC2"
  period              = 60
  statistic           = "Average"
  threshold           = 85
  treat_missing_data  = "notBreaching"
  dimensions          = { AutoScalingGroupName = aws_autoscaling_group.web.name }
  alarm_actions       = [aws_autoscaling_policy.step.arn]
  tags                = { Environment = var.environment }
}

resource "aws_cloudwatch_metric_alarm" "errors" {
  alarm_name          = "${var.name}-5xx-rate"
  comparison_operator = "GreaterThanThreshold"
  evaluation_periods  = 3
  threshold           = 5
  metric_query {
    id          = "rate"
    expression  = "errors / requests * 100"
    label       = "errors in percent"
    return_data = true
  }
  metric_query {
    id = "errors"
    metric {
      metric_name = "HTTPCode_Target_5XX_Count"
      namespace   = "AWS/ApplicationELB"
      period      = 60
      stat        = "Sum"
      dimensions  = { LoadBalancer = aws_lb.web.arn_suffix }
    }
  }
  metric_query {
    id = "requests"
    metric {
      metric_name = "RequestCount"
      namespace   = "AWS/ApplicationELB"
      period      = 60
      stat        = "Sum"
      dimensions  = { LoadBalancer = aws_lb.web.arn_suffix }
    }
  }
}
