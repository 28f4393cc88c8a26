# Zinc: air wavelength (Angstrom), relative intensity, label
# Wavelengths and intensities: lines curated by PypeIt (BSD-3 licence) from NIST and Keck LRIS spectra, put from vacuum into
# standard air by Ciddor 1996 (Applied Optics 35, 1566).
# The strongest line has intensity 1000; other lamps have scales of their own.
  3018.3608      100.3  label=Zn
  3035.7764      160.4  label=Zn
  3072.0573      160.4  label=Zn
  3075.8964      120.3  label=Zn
  3282.3342      10.59  label=Zn
  3302.5791      24.24  label=Zn
  3302.9390      561.5  label=Zn
  3345.0183      44.07  label=Zn
  3345.5681        401  label=Zn
  3345.9380      120.3  label=Zn
  3883.3394       40.1  label=Zn
  3965.4280      12.03  label=Zn
  4113.2094      8.021  label=Zn
  4292.8822      20.05  label=Zn
  4298.3308      20.05  label=Zn
  4629.8133      28.07  label=Zn
  4680.1400      446.9  label=Zn
  4722.1489      719.2  label=Zn
  4810.5255       1000  label=Zn
  5069.5766      12.03  label=Zn
  5181.9767      160.4  label=Zn
  5777.1078      8.021  label=Zn
  6362.3409      802.1  label=Zn
  6479.1795      8.021  label=Zn
  6928.3187      12.03  label=Zn
  7799.3638      8.021  label=Zn
