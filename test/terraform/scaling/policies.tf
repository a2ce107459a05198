resource "aws_autoscaling_policy" "simple" {
  name                   = "simple"
  autoscaling_group_name = aws_autoscaling_group.web.name
  adjustment_type        = "ChangeInCapacity"
  scaling_adjustment     = 1
  cooldown               = 30
}

resource "aws_autoscaling_policy" "step" {
  name                      = "step"
  autoscaling_group_name    = aws_autoscaling_group.web.name
  policy_type               = "StepScaling"
  adjustment_type           = "PercentChangeInCapacity"
  min_adjustment_magnitude  = 1
  estimated_instance_warmup = 30
  step_adjustment {
    scaling_adjustment          = -10
    metric_interval_upper_bound = 0
  }
  step_adjustment {
    scaling_adjustment          = 10
    metric_interval_lower_bound = 0
  }
}

resource "aws_autoscaling_policy" "network" {
  name                   = "network"
  autoscaling_group_name = aws_autoscaling_group.web.name
  policy_type            = "TargetTrackingScaling"
  enabled                = false
  target_tracking_configuration {
    predefined_metric_specification {
      predefined_metric_type = "ASGAverageNetworkOut"
    }
    target_value = 1000000
  }
}

resource "aws_autoscaling_policy" "custom" {
  name                   = "custom"
  autoscaling_group_name = aws_autoscaling_group.web.name
  policy_type            = "TargetTrackingScaling"
  target_tracking_configuration {
    customized_metric_specification {
      metric_name = "depth"
      namespace   = "queue"
      statistic   = "Average"
      unit        = "Count"
      metric_dimension {
        name  = "queue"
        value = "orders"
      }
    }
    target_value = var.target
  }
}

resource "aws_autoscaling_policy" "math" {
  name                   = "math"
  autoscaling_group_name = aws_autoscaling_group.web.name
  policy_type            = "TargetTrackingScaling"
  target_tracking_configuration {
    customized_metric_specification {
      metrics {
        id          = "depth"
        return_data = false
        metric_stat {
          stat = "Sum"
          metric {
            namespace   = "queue"
            metric_name = "depth"
            dimensions {
              name  = "queue"
              value = "orders"
            }
          }
        }
      }
      metrics {
        id          = "size"
        return_data = false
        metric_stat {
          stat = "Average"
          metric {
            namespace   = "AWS/AutoScaling"
            metric_name = "GroupInServiceInstances"
            dimensions {
              name  = "AutoScalingGroupName"
              value = aws_autoscaling_group.web.name
            }
          }
        }
      }
      metrics {
        id          = "each"
        label       = "backlog of an instance"
        expression  = "depth / size"
        return_data = true
      }
    }
    target_value     = var.target
    disable_scale_in = true
  }
}

resource "aws_autoscaling_policy" "ahead" {
  name                   = "ahead"
  autoscaling_group_name = aws_autoscaling_group.web.name
  policy_type            = "PredictiveScaling"
  predictive_scaling_configuration {
    mode                         = "ForecastOnly"
    scheduling_buffer_time       = 60
    max_capacity_breach_behavior = "IncreaseMaxCapacity"
    max_capacity_buffer          = 10
    metric_specification {
      target_value = var.target
      predefined_metric_pair_specification {
        predefined_metric_type = "ASGCPUUtilization"
      }
    }
  }
}

resource "aws_autoscaling_policy" "ahead_of_load" {
  name                   = "ahead-of-load"
  autoscaling_group_name = aws_autoscaling_group.old.name
  policy_type            = "PredictiveScaling"
  predictive_scaling_configuration {
    metric_specification {
      target_value = 40
      predefined_load_metric_specification {
        predefined_metric_type = "ASGTotalCPUUtilization"
      }
      predefined_scaling_metric_specification {
        predefined_metric_type = "ASGAverageCPUUtilization"
      }
    }
  }
}
