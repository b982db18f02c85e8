"""COCO evaluation of a network: metrics, report and plots."""
