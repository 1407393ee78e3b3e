"""How a scan is drawn, everywhere: radiological convention, letters, one scale in mm, a colour bar for heatmaps."""
