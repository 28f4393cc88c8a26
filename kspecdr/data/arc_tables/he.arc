# Helium: air wavelength (Angstrom), relative intensity, label
# Wavelengths: observed lines of the NIST Atomic Spectra Database (Kramida, Ralchenko, Reader and NIST ASD Team,
# https://physics.nist.gov/asd, He I), put from vacuum into standard air by Ciddor 1996 (Applied Optics 35, 1566).
# Intensities: those of the database.
# The strongest line has intensity 1000; other lamps have scales of their own.
  2577.6282        100  label=He
  2818.1702         20  label=He
  2945.1060         20  label=He
  3013.7219         80  label=He
  3187.7452         40  label=He
  3613.6433          6  label=He
  3705.0047          6  label=He
  3819.6074         20  label=He
  3888.6480       1000  label=He
  3964.7291         40  label=He
  4026.1913        100  label=He
  4120.8154         24  label=He
  4143.7614          6  label=He
  4387.9296         20  label=He
  4437.5511          6  label=He
  4471.4801        400  label=He
  4713.1457         60  label=He
  4921.9312         40  label=He
  5015.6782        200  label=He
  5047.7375         20  label=He
  5875.6204       1000  label=He
  6678.1510        200  label=He
  7065.1898        400  label=He
  7065.7117         60  label=He
  7281.3486        100  label=He
  9210.3373          4  label=He
  9526.1667          6  label=He
 10027.7308         12  label=He
 10031.1599          4  label=He
 10912.9208         24  label=He
 10913.0507         18  label=He
 10917.0996          6  label=He
 11969.1241         60  label=He
 12527.5225         40  label=He
 12784.7926        162  label=He
 12784.9925        100  label=He
 12790.5710         40  label=He
 12845.9559         14  label=He
 12968.4527         20  label=He
 12984.8882          4  label=He
